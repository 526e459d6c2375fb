package ops

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"
)

// page is asynqmon with its start page kept, because that is changed a little and its scripts are named in the policy.
type page struct {
	inner  http.Handler
	start  []byte
	policy string // the Content-Security-Policy that fits the start page
}

var (
	inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
	// foreignStyle are asynqmon's links to fonts at Google's. The page must not tell anybody that it is looked at, and works
	// without them.
	foreignStyle = regexp.MustCompile(`<link rel="stylesheet" href="https?://[^"]*"\s*/?>`)
)

// tellRefusals is put into a writable page, because asynqmon keeps quiet about a button that is refused.
const tellRefusals = `<script>(() => {
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (...args) {
    this.addEventListener("load", () => { if (this.status === 405) alert(this.responseText); });
    return send.apply(this, args);
  };
})()</script>`

func readPage(inner http.Handler, readOnly bool) (*page, error) {
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		return nil, err
	}
	answer := &captured{header: http.Header{}}
	inner.ServeHTTP(answer, r)
	start := foreignStyle.ReplaceAll(answer.body.Bytes(), nil)
	if !readOnly {
		start = bytes.Replace(start, []byte("</head>"), []byte(tellRefusals+"</head>"), 1)
	}
	scripts := inlineScript.FindAllSubmatch(start, -1)
	if len(scripts) == 0 {
		return nil, errors.New("the embedded page has no inline script, so it is not the one that is known; its policy cannot be made")
	}
	var hashes []string
	for _, s := range scripts {
		sum := sha256.Sum256(s[1])
		hashes = append(hashes, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return &page{inner: inner, start: start, policy: pagePolicy(hashes)}, nil
}

// captured is a response kept in memory.
type captured struct {
	header http.Header
	body   bytes.Buffer
}

func (c *captured) Header() http.Header         { return c.header }
func (c *captured) Write(b []byte) (int, error) { return c.body.Write(b) }
func (c *captured) WriteHeader(int)             {}

// strictPolicy is for answers that are no page.
const strictPolicy = "default-src 'none'; frame-ancestors 'none'"

// pagePolicy allows asynqmon what it needs: its own files, the page's inline scripts by their hashes (one of them changes with
// the options), and the style elements that its component library writes.
func pagePolicy(hashes []string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self' " + strings.Join(hashes, " "),
		"style-src 'self' 'unsafe-inline'",
		"img-src 'self' data:",
		"font-src 'self'",
		"connect-src 'self'",
		"manifest-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// ServeHTTP serves asynqmon's API and files as they are, and the start page for every other path, since the page finds its
// own way from there.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/"):
		// asynqmon leaves the type to be guessed. Its errors say theirs themselves.
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		p.inner.ServeHTTP(w, r)
	case isFile(r.URL.Path):
		w.Header().Set("Cache-Control", "private, max-age=3600")
		p.inner.ServeHTTP(w, r)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(p.start)
	}
}

func isFile(name string) bool {
	return strings.HasPrefix(name, "/static/") || path.Dir(name) == "/" && path.Ext(name) != ""
}

// secured sets the headers that every answer has. There are none that let other origins in.
func secured(policy string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// actions are what a writable page may do. All else that asynqmon offers (delete, archive, cancel) would end recalls without
// an outcome.
var actions = regexp.MustCompile(`^/api/queues/[^/]+(:(pause|resume)|/(scheduled|retry|archived)_tasks(:run_all|:batch_run|/[^/]+:run))$`)

const (
	readOnlyLine = "this page is read-only; set ui.read_only: false to run, pause and resume from it"
	noActionLine = `not from this page, which only runs, pauses and resumes: it would end recalls without an outcome; use "enqueue cancel BATCH"`
)

func onlyActions(readOnly bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		looks := r.Method == http.MethodGet || r.Method == http.MethodHead
		acts := r.Method == http.MethodPost && actions.MatchString(r.URL.Path)
		switch {
		case looks, acts && !readOnly:
			h.ServeHTTP(w, r)
		case readOnly:
			refuse(w, readOnlyLine)
		default:
			refuse(w, noActionLine)
		}
	})
}

func refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, why, http.StatusMethodNotAllowed)
}

// sameOrigin refuses requests that change something and come from another site's page.
func sameOrigin(h http.Handler) http.Handler {
	check := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := check.Check(r); err != nil {
			http.Error(w, fmt.Sprintf("refused: %v", err), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
