package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
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

// login asks for name and password. Hashes are compared, so that the time it takes tells neither content nor length.
func login(ui UI, log zerolog.Logger, h http.Handler) http.Handler {
	wantName, wantPassword := sha256.Sum256([]byte(ui.Username)), sha256.Sum256([]byte(ui.Password))
	anyName := 0
	if ui.Username == "" {
		anyName = 1
	}
	// Whoever guesses passwords must not fill the log.
	refused := log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Minute})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, given := r.BasicAuth()
		gotName, gotPassword := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
		nameOK := subtle.ConstantTimeCompare(gotName[:], wantName[:]) | anyName
		passwordOK := subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:])
		if nameOK&passwordOK == 1 {
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
