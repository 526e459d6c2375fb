package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// DefaultURL is the Redis that is used when nothing names one.
const DefaultURL = "redis://127.0.0.1:6379/0"

// Options is the redis section of the configuration. The zero value means [DefaultURL].
type Options struct {
	// URL has one of the forms redis://user:password@host:6379/0, rediss:// (TLS), unix:///path?db=0 and
	// redis-sentinel://user:password@h1:26379,h2:26379/0?master=mymaster (rediss-sentinel:// with TLS). User and password
	// are those of Redis itself, also with Sentinel.
	URL string
	// Cluster is a list of host:port of some nodes, instead of URL.
	Cluster []string
	// Username and Password are for Redis, where the URL has none.
	Username, Password string
	// SentinelPassword is for the Sentinels themselves.
	SentinelPassword string
	// CAFile replaces the system's certificate authorities; CertFile and KeyFile are the client's certificate. For Cluster
	// and Sentinel, naming one of them turns TLS on.
	CAFile, CertFile, KeyFile string
	// RequireDurable makes a worker refuse a Redis that would lose or evict tasks. It has no part in connecting.
	RequireDurable bool
}

// FieldError says which key of the redis section is wrong, and why, without any secret.
type FieldError struct {
	Field  string // as in the file: "url", "ca_file"
	Reason string // what is wrong and what to do, in lower case
}

func (e *FieldError) Error() string { return "redis." + e.Field + ": " + e.Reason }

// String describes the options without secrets, so that they may be printed by mistake.
func (o Options) String() string { return Describe(o) }

// GoString is for %#v, which would print the passwords.
func (o Options) GoString() string { return "redisconn.Options{" + Describe(o) + "}" }

// MarshalText keeps passwords out of JSON and YAML.
func (o Options) MarshalText() ([]byte, error) { return []byte(Describe(o)), nil }

// form is how Redis is reached.
type form int

const (
	single form = iota
	unixSocket
	sentinel
	cluster
)

// target is what Options come down to.
type target struct {
	form               form
	addrs              []string // one host:port, or a socket's path, or the nodes' host:port
	master             string
	db                 int
	username, password string
	secure             bool
}

// Check reports every fault of the options at once: errors.Join of *[FieldError]. It reads the certificate files, and does
// not connect.
func (o Options) Check() error {
	t, faults := o.target()
	_, tlsFaults := o.tlsConfig(t)
	return errors.Join(append(faults, tlsFaults...)...)
}

// WithURL returns the options for another Redis: url counts over URL and Cluster. What else was given stays as far as the
// new URL can use it: user and password unless it has its own, certificates if it speaks TLS, the Sentinel password if it
// names Sentinels.
func (o Options) WithURL(url string) Options {
	o.URL, o.Cluster = url, nil
	var faults faultList
	t := parseURL(url, &faults)
	if len(faults) > 0 {
		return o // whatever is said then, is said of the URL
	}
	if t.username != "" || t.password != "" {
		o.Username, o.Password = "", ""
	}
	if t.form != sentinel {
		o.SentinelPassword = ""
		if !t.secure {
			o.CAFile, o.CertFile, o.KeyFile = "", "", ""
		}
	}
	return o
}

// Describe says in one line where Redis is, without secrets, for logs and tables.
func Describe(o Options) string {
	t, faults := o.target()
	if len(faults) > 0 {
		return "redis (bad configuration)"
	}
	user := ""
	if t.username != "" {
		user = url.PathEscape(t.username) + "@"
	}
	scheme := "redis"
	if t.secure {
		scheme = "rediss"
	}
	list := strings.Join(t.addrs, ",")
	switch t.form {
	case unixSocket:
		return "unix://" + user + list + "?db=" + strconv.Itoa(t.db)
	case sentinel:
		return fmt.Sprintf("%s-sentinel://%s%s/%d?master=%s", scheme, user, list, t.db, url.QueryEscape(t.master))
	case cluster:
		return scheme + "-cluster://" + user + list
	}
	return fmt.Sprintf("%s://%s%s/%d", scheme, user, list, t.db)
}

// faultList collects FieldErrors.
type faultList []error

func (l *faultList) add(field, reason string, args ...any) {
	*l = append(*l, &FieldError{Field: field, Reason: fmt.Sprintf(reason, args...)})
}

func (o Options) target() (target, faultList) {
	var t target
	var faults faultList
	switch {
	case o.URL != "" && len(o.Cluster) > 0:
		faults.add("cluster", "is given with url; give one of the two")
		return t, faults
	case len(o.Cluster) > 0:
		t.form = cluster
		t.addrs = addresses("cluster", o.Cluster, "6379", &faults)
	case o.URL != "":
		t = parseURL(o.URL, &faults)
	default:
		t = parseURL(DefaultURL, &faults)
	}
	if len(faults) > 0 {
		return t, faults
	}
	o.credentials(&t, &faults)
	if hasTLSFile := o.CAFile != "" || o.CertFile != "" || o.KeyFile != ""; hasTLSFile {
		t.useTLS(&faults)
	}
	if o.SentinelPassword != "" && t.form != sentinel {
		faults.add("sentinel_password", "is for a redis-sentinel:// url only; remove it, or give such a url")
	}
	return t, faults
}

// credentials adds user and password where the URL has none.
func (o Options) credentials(t *target, faults *faultList) {
	if o.Username != "" {
		if t.username != "" {
			faults.add("username", "is given here and in the url; give it once")
		}
		t.username = o.Username
	}
	if o.Password != "" {
		if t.password != "" {
			faults.add("password", "is given here and in the url; give it once")
		}
		t.password = o.Password
	}
	if t.username != "" && t.password == "" {
		faults.add("username", "is given without a password; set password_file, or remove it")
	}
}

// useTLS is for certificate files: a Cluster or Sentinel speaks TLS because of them, a URL says so itself.
func (t *target) useTLS(faults *faultList) {
	switch t.form {
	case cluster, sentinel:
		t.secure = true
	case unixSocket:
		faults.add("url", "is a unix socket, which has no TLS; remove ca_file, cert_file and key_file")
	default:
		if !t.secure {
			faults.add("url", "begins with redis:// although certificate files are given; write rediss:// for TLS, or remove them")
		}
	}
}

const forms = "redis://, rediss://, unix:// or redis-sentinel://"

// parseURL reads a URL. Its faults never quote user, password or query: the password may be in any of them by mistake.
func parseURL(text string, faults *faultList) target {
	var t target
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		faults.add("url", "is no url; write it as %s, like %s", forms, DefaultURL)
		return t
	}
	// Several hosts are no URL to net/url, so they are taken out first.
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse("x://" + user + "h" + tail)
	if err != nil || (user == "" && strings.Contains(tail, "@")) {
		faults.add("url", "cannot be read; percent-encode special characters in user and password (/ as %%2F, @ as %%40, # as %%23)")
		return t
	}
	t.username = u.User.Username()
	t.password, _ = u.User.Password()
	t.readForm(strings.ToLower(scheme), hosts, u.Path, faults)
	t.readQuery(u, faults)
	if u.Fragment != "" {
		faults.add("url", "has a '#'; percent-encode it as %%23 if it belongs to the password")
	}
	return t
}

func (t *target) readForm(scheme, hosts, path string, faults *faultList) {
	switch scheme {
	case "unix":
		t.form = unixSocket
		t.addrs = []string{path}
		if hosts != "" || path == "" || path == "/" {
			faults.add("url", "names no unix socket; write three slashes, like unix:///run/redis/redis.sock")
		}
		return
	case "redis", "rediss":
		t.form, t.secure = single, scheme == "rediss"
		if strings.Contains(hosts, ",") {
			faults.add("url", "has several hosts; use redis-sentinel:// for Sentinel, or the key cluster for a Cluster")
			return
		}
		if hosts == "" {
			hosts = "127.0.0.1"
		}
		t.addrs = addresses("url", []string{hosts}, "6379", faults)
	case "redis-sentinel", "rediss-sentinel":
		t.form, t.secure = sentinel, scheme == "rediss-sentinel"
		t.addrs = addresses("url", strings.Split(hosts, ","), "26379", faults)
	default:
		faults.add("url", "does not begin with %s", forms)
		return
	}
	if number := strings.Trim(path, "/"); number != "" {
		t.setDB(number, faults)
	}
}

// readQuery knows two parameters: db, and master for Sentinel.
func (t *target) readQuery(u *url.URL, faults *faultList) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		faults.add("url", "has a query that cannot be read; percent-encode a '?' in the password as %%3F")
		return
	}
	for name, values := range query {
		switch {
		case len(values) > 1:
			faults.add("url", "has a query parameter twice; give it once")
		case name == "db" && t.form != unixSocket && strings.Trim(u.Path, "/") != "":
			faults.add("url", "gives the database in the path and in the query; give it once")
		case name == "db":
			t.setDB(values[0], faults)
		case name == "master" && t.form == sentinel:
			t.master = values[0]
		default:
			faults.add("url", "has a query parameter that is not known; only db, and master for redis-sentinel://, are")
		}
	}
	if t.form == sentinel && t.master == "" {
		faults.add("url", "does not name the Sentinel master; add ?master=mymaster")
	}
}

func (t *target) setDB(text string, faults *faultList) {
	db, err := strconv.Atoi(text)
	if err != nil || db < 0 {
		faults.add("url", "has a database that is no number; end it in /0, or in ?db=0 for a unix socket")
		return
	}
	t.db = db
}

// addresses reads a list of host:port; the port may be left out. Its faults name an entry by its number: a mistyped one may
// hold the password.
func addresses(field string, list []string, port string, faults *faultList) []string {
	var out []string
	for i, text := range list {
		addr, err := address(strings.TrimSpace(text), port)
		if err != nil {
			faults.add(field, "host %d %v", i+1, err)
			continue
		}
		out = append(out, addr)
	}
	return out
}

func address(text, port string) (string, error) {
	if text == "" {
		return "", errors.New("is empty; write host:port")
	}
	if strings.ContainsAny(text, "@/") {
		return "", errors.New("is no host:port; credentials go to username and password_file")
	}
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if h, p, err := net.SplitHostPort(text); err == nil {
		host, port = h, p
	} else if strings.Contains(host, ":") && !strings.HasPrefix(text, "[") {
		return "", errors.New("is no host:port; an IPv6 address is written as [::1]:" + port + ", and a password ends in @")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", errors.New("has a port that is not between 1 and 65535")
	}
	if host == "" || strings.ContainsAny(host, " []") {
		return "", errors.New("is no host:port")
	}
	return net.JoinHostPort(host, port), nil
}

// tlsConfig reads the certificate files. The server's name is left to go-redis, which takes that of the node it dials.
func (o Options) tlsConfig(t target) (*tls.Config, faultList) {
	var faults faultList
	if (o.CertFile == "") != (o.KeyFile == "") {
		faults.add("cert_file", "and key_file belong together; give both or none")
	}
	if !t.secure {
		return nil, faults
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		config.RootCAs = authorities(o.CAFile, &faults)
	}
	if o.CertFile != "" && o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			faults.add("cert_file", "and key_file cannot be used: %s", bare(err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, faults
}

func authorities(file string, faults *faultList) *x509.CertPool {
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(file)
	switch {
	case err != nil:
		faults.add("ca_file", "cannot be read: %s", bare(err))
	case !pool.AppendCertsFromPEM(pem):
		faults.add("ca_file", "holds no certificate in PEM form")
	}
	return pool
}

// bare is an error of a file without its operation: "no such file or directory".
func bare(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Path + ": " + path.Err.Error()
	}
	return err.Error()
}
