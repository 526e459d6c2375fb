package redisconn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/recallq/recallq/internal/redistest"
)

// built is what of the client's options the tests compare.
type built struct {
	Addrs                      []string
	Master                     string
	DB                         int
	Username, Password         string
	SentinelPassword           string
	Cluster, TLS, OwnCA, Certs bool
}

func TestOptions(t *testing.T) {
	t.Parallel()
	files := redistest.NewCertificates(t)
	cases := map[string]struct {
		options  Options
		want     built
		describe string
	}{
		"nothing given": {
			Options{}, built{Addrs: []string{"127.0.0.1:6379"}}, "redis://127.0.0.1:6379/0",
		},
		"plain": {
			Options{URL: "redis://10.0.0.1:6380/3"}, built{Addrs: []string{"10.0.0.1:6380"}, DB: 3}, "redis://10.0.0.1:6380/3",
		},
		"no port, no database": {
			Options{URL: "redis://cache"}, built{Addrs: []string{"cache:6379"}}, "redis://cache:6379/0",
		},
		"database in the query": {
			Options{URL: "redis://cache?db=4"}, built{Addrs: []string{"cache:6379"}, DB: 4}, "redis://cache:6379/4",
		},
		"IPv6": {
			Options{URL: "redis://[::1]:6380/1"}, built{Addrs: []string{"[::1]:6380"}, DB: 1}, "redis://[::1]:6380/1",
		},
		"IPv6 without port": {
			Options{URL: "redis://[::1]/1"}, built{Addrs: []string{"[::1]:6379"}, DB: 1}, "redis://[::1]:6379/1",
		},
		"password alone": {
			Options{URL: "redis://:p%40ss%2F%3F@cache/0"},
			built{Addrs: []string{"cache:6379"}, Password: "p@ss/?"}, "redis://cache:6379/0",
		},
		"ACL user in the url": {
			Options{URL: "redis://worker:topsecret@cache/0"},
			built{Addrs: []string{"cache:6379"}, Username: "worker", Password: "topsecret"}, "redis://worker@cache:6379/0",
		},
		"an @ in the password that nobody encoded": {
			Options{URL: "redis://worker:top@secret@cache/0"},
			built{Addrs: []string{"cache:6379"}, Username: "worker", Password: "top@secret"}, "redis://worker@cache:6379/0",
		},
		"ACL user in the url, password beside it": {
			Options{URL: "redis://worker@cache/0", Password: "topsecret"},
			built{Addrs: []string{"cache:6379"}, Username: "worker", Password: "topsecret"}, "redis://worker@cache:6379/0",
		},
		"ACL user beside the url": {
			Options{URL: "redis://cache/0", Username: "worker", Password: "topsecret"},
			built{Addrs: []string{"cache:6379"}, Username: "worker", Password: "topsecret"}, "redis://worker@cache:6379/0",
		},
		"TLS": {
			Options{URL: "rediss://cache/0"}, built{Addrs: []string{"cache:6379"}, TLS: true}, "rediss://cache:6379/0",
		},
		"TLS with its own authority and a client certificate": {
			Options{URL: "rediss://cache/0", CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key},
			built{Addrs: []string{"cache:6379"}, TLS: true, OwnCA: true, Certs: true}, "rediss://cache:6379/0",
		},
		"unix socket": {
			Options{URL: "unix:///run/redis.sock?db=2"}, built{Addrs: []string{"/run/redis.sock"}, DB: 2}, "unix:///run/redis.sock?db=2",
		},
		"unix socket with user": {
			Options{URL: "unix://worker:topsecret@/run/redis.sock"},
			built{Addrs: []string{"/run/redis.sock"}, Username: "worker", Password: "topsecret"}, "unix://worker@/run/redis.sock?db=0",
		},
		"sentinel": {
			Options{URL: "redis-sentinel://worker:topsecret@h1:26379,h2/5?master=mymaster", SentinelPassword: "sentinelsecret"},
			built{
				Addrs: []string{"h1:26379", "h2:26379"}, Master: "mymaster", DB: 5,
				Username: "worker", Password: "topsecret", SentinelPassword: "sentinelsecret",
			},
			"redis-sentinel://worker@h1:26379,h2:26379/5?master=mymaster",
		},
		"one sentinel, TLS by its certificate authority": {
			Options{URL: "redis-sentinel://[::1]:26380?master=m", CAFile: files.CA},
			built{Addrs: []string{"[::1]:26380"}, Master: "m", TLS: true, OwnCA: true}, "rediss-sentinel://[::1]:26380/0?master=m",
		},
		"sentinel with TLS by its url": {
			Options{URL: "rediss-sentinel://h1?master=m"},
			built{Addrs: []string{"h1:26379"}, Master: "m", TLS: true}, "rediss-sentinel://h1:26379/0?master=m",
		},
		"cluster": {
			Options{Cluster: []string{"10.0.0.1:6379", "10.0.0.2"}, Username: "worker", Password: "topsecret"},
			built{Addrs: []string{"10.0.0.1:6379", "10.0.0.2:6379"}, Cluster: true, Username: "worker", Password: "topsecret"},
			"redis-cluster://worker@10.0.0.1:6379,10.0.0.2:6379",
		},
		"cluster of one node, TLS": {
			Options{Cluster: []string{"10.0.0.1"}, CAFile: files.CA},
			built{Addrs: []string{"10.0.0.1:6379"}, Cluster: true, TLS: true, OwnCA: true}, "rediss-cluster://10.0.0.1:6379",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := c.options.universal()
			if err != nil {
				t.Fatal(err)
			}
			got := built{
				Addrs: u.Addrs, Master: u.MasterName, DB: u.DB, Username: u.Username, Password: u.Password,
				SentinelPassword: u.SentinelPassword, Cluster: u.IsClusterMode, TLS: u.TLSConfig != nil,
			}
			if u.TLSConfig != nil {
				got.OwnCA, got.Certs = u.TLSConfig.RootCAs != nil, len(u.TLSConfig.Certificates) > 0
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := Describe(c.options); got != c.describe {
				t.Errorf("described as %s, want %s", got, c.describe)
			}
			holdsNoSecret(t, c.options)
		})
	}
}

// holdsNoSecret prints options in every way that Go has.
func holdsNoSecret(t *testing.T, o Options) {
	t.Helper()
	asJSON, err := json.Marshal(map[string]any{"o": o, "p": &o})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %v %#v %s %v", o, o, o, o, &o, &o, asJSON, struct{ O Options }{o})
	for _, secret := range []string{"topsecret", "sentinelsecret", "secret@", "p%40ss", "p@ss"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is shown: %s", secret, all)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	files := redistest.NewCertificates(t)
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		options Options
		want    []string
	}{
		"no url":               {Options{URL: "topsecret"}, []string{"redis.url: is no url; write it as redis://, rediss://, unix:// or redis-sentinel://, like redis://127.0.0.1:6379/0"}},
		"another scheme":       {Options{URL: "http://:topsecret@cache/0"}, []string{"redis.url: does not begin with redis://, rediss://, unix:// or redis-sentinel://"}},
		"slash in password":    {Options{URL: "redis://:top/secret@cache/0"}, []string{"redis.url: cannot be read; percent-encode special characters in user and password (/ as %2F, @ as %40, # as %23)"}},
		"hash in password":     {Options{URL: "redis://:top#topsecret@cache/0"}, []string{"redis.url: cannot be read; percent-encode special characters in user and password (/ as %2F, @ as %40, # as %23)"}},
		"question mark":        {Options{URL: "redis://:top?topsecret@cache/0"}, []string{"redis.url: cannot be read; percent-encode special characters in user and password (/ as %2F, @ as %40, # as %23)"}},
		"bad escape":           {Options{URL: "redis://:topsecret%zz@cache/0"}, []string{"redis.url: cannot be read; percent-encode special characters in user and password (/ as %2F, @ as %40, # as %23)"}},
		"fragment":             {Options{URL: "redis://cache/0#topsecret"}, []string{"redis.url: has a '#'; percent-encode it as %23 if it belongs to the password"}},
		"password without @":   {Options{URL: "redis://:topsecret:6379/0"}, []string{"redis.url: host 1 is no host:port; an IPv6 address is written as [::1]:6379, and a password ends in @"}},
		"port":                 {Options{URL: "redis://cache:topsecret/0"}, []string{"redis.url: host 1 has a port that is not between 1 and 65535"}},
		"database":             {Options{URL: "redis://cache/topsecret"}, []string{"redis.url: has a database that is no number; end it in /0, or in ?db=0 for a unix socket"}},
		"negative database":    {Options{URL: "redis://cache/-1"}, []string{"redis.url: has a database that is no number; end it in /0, or in ?db=0 for a unix socket"}},
		"database twice":       {Options{URL: "redis://cache/1?db=1"}, []string{"redis.url: gives the database in the path and in the query; give it once"}},
		"query":                {Options{URL: "redis://cache/1?topsecret=1"}, []string{"redis.url: has a query parameter that is not known; only db, and master for redis-sentinel://, are"}},
		"query parameter x2":   {Options{URL: "redis://cache?db=1&db=2"}, []string{"redis.url: has a query parameter twice; give it once"}},
		"several hosts":        {Options{URL: "redis://a,b/0"}, []string{"redis.url: has several hosts; use redis-sentinel:// for Sentinel, or the key cluster for a Cluster"}},
		"two slashes":          {Options{URL: "unix://run/redis.sock"}, []string{"redis.url: names no unix socket; write three slashes, like unix:///run/redis/redis.sock"}},
		"no socket":            {Options{URL: "unix://"}, []string{"redis.url: names no unix socket; write three slashes, like unix:///run/redis/redis.sock"}},
		"no master":            {Options{URL: "redis-sentinel://h1,h2/0"}, []string{"redis.url: does not name the Sentinel master; add ?master=mymaster"}},
		"sentinel without one": {Options{URL: "redis-sentinel:///0?master=m"}, []string{"redis.url: host 1 is empty; write host:port"}},
		"url and cluster":      {Options{URL: DefaultURL, Cluster: []string{"a:1"}}, []string{"redis.cluster: is given with url; give one of the two"}},
		"cluster of urls": {
			Options{Cluster: []string{"redis://:topsecret@a:1", "a:1", ""}},
			[]string{"redis.cluster: host 1 is no host:port; credentials go to username and password_file", "redis.cluster: host 3 is empty; write host:port"},
		},
		"user twice": {
			Options{URL: "redis://u:topsecret@cache/0", Username: "u", Password: "topsecret"},
			[]string{"redis.username: is given here and in the url; give it once", "redis.password: is given here and in the url; give it once"},
		},
		"user without password": {Options{URL: "redis://u@cache/0"}, []string{"redis.username: is given without a password; set password_file, or remove it"}},
		"sentinel password":     {Options{URL: "redis://cache/0", SentinelPassword: "topsecret"}, []string{"redis.sentinel_password: is for a redis-sentinel:// url only; remove it, or give such a url"}},
		"authority, no TLS":     {Options{URL: "redis://cache/0", CAFile: files.CA}, []string{"redis.url: begins with redis:// although certificate files are given; write rediss:// for TLS, or remove them"}},
		"authority, socket":     {Options{URL: "unix:///s", CAFile: files.CA}, []string{"redis.url: is a unix socket, which has no TLS; remove ca_file, cert_file and key_file"}},
		"no key":                {Options{URL: "rediss://cache/0", CertFile: files.Cert}, []string{"redis.cert_file: and key_file belong together; give both or none"}},
		"no such authority":     {Options{URL: "rediss://cache/0", CAFile: "/nowhere/ca.pem"}, []string{"redis.ca_file: cannot be read: /nowhere/ca.pem: no such file or directory"}},
		"no such certificate":   {Options{URL: "rediss://cache/0", CertFile: "/nowhere/c.pem", KeyFile: files.Key}, []string{"redis.cert_file: and key_file cannot be used: /nowhere/c.pem: no such file or directory"}},
		"garbage authority":     {Options{URL: "rediss://cache/0", CAFile: garbage}, []string{"redis.ca_file: holds no certificate in PEM form"}},
		"garbage certificate":   {Options{URL: "rediss://cache/0", CertFile: garbage, KeyFile: files.Key}, []string{"redis.cert_file: and key_file cannot be used: tls: failed to find any PEM data in certificate input"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(c.options)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(strings.Join(c.want, "\n"), err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var field *FieldError
			if !errors.As(err, &field) {
				t.Error("is no *FieldError")
			}
			if strings.Contains(err.Error(), "topsecret") {
				t.Errorf("a secret is shown: %v", err)
			}
			holdsNoSecret(t, c.options)
		})
	}
}

func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		DefaultURL, "rediss://u:p@h/1", "unix:///s?db=1", "redis-sentinel://a,b:1/0?master=m", "redis://[::1", "redis://%zz", "://", "x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o := Options{URL: text}
		u, err := o.universal()
		if err != nil {
			return
		}
		if len(u.Addrs) == 0 || u.Addrs[0] == "" || u.DB < 0 {
			t.Errorf("%q: %v, database %d", text, u.Addrs, u.DB)
		}
		if len(u.Password) > 8 && !strings.Contains(text[:strings.Index(text, "://")]+strings.Join(u.Addrs, ",")+u.MasterName+u.Username, u.Password) &&
			strings.Contains(Describe(o), u.Password) {
			t.Errorf("%q: the password is described: %s", text, Describe(o))
		}
	})
}
