package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// loopbackHost guards a page without a password. It listens on loopback only, but any site can give its own name this
// machine's loopback address, and a browser then takes the page for that site's own. Such a request names the site as its host.
func loopbackHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if !isLoopback(strings.Trim(host, "[]")) {
			http.Error(w, "without a password this page answers to localhost only; set ui.password_file to serve it under another name",
				http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// account is who is let in, as hashes: they are compared so that the time it takes tells neither content nor length.
type account struct {
	name, password [sha256.Size]byte
	anyName        bool
}

// newAccount is nil without a password.
func newAccount(username, password string) *account {
	if password == "" {
		return nil
	}
	return &account{name: sha256.Sum256([]byte(username)), password: sha256.Sum256([]byte(password)), anyName: username == ""}
}

func (a *account) admits(name, password string) bool {
	gotName, gotPassword := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
	anyName := 0
	if a.anyName {
		anyName = 1
	}
	nameOK := subtle.ConstantTimeCompare(gotName[:], a.name[:]) | anyName
	return nameOK&subtle.ConstantTimeCompare(gotPassword[:], a.password[:]) == 1
}

// login asks for name and password, if there is a password. Without one the page is for loopback only.
func login(current *atomic.Pointer[account], log zerolog.Logger, h http.Handler) http.Handler {
	open := loopbackHost(h)
	// Whoever guesses passwords must not fill the log.
	refused := log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Minute})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := current.Load()
		if a == nil {
			open.ServeHTTP(w, r)
			return
		}
		name, password, given := r.BasicAuth()
		if a.admits(name, password) {
			h.ServeHTTP(w, r)
			return
		}
		if given {
			refused.Warn().Str("remote", r.RemoteAddr).Msg("wrong name or password for the page")
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="recallq", charset="UTF-8"`)
		http.Error(w, "name and password are needed", http.StatusUnauthorized)
	})
}
