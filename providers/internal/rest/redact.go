package rest

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"

	"github.com/recallq/recallq/providers"
)

// Basic returns the value that follows "Basic " in an Authorization header: base64(user:secret). It is as secret as the
// secret itself.
func Basic(user, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))
}

// Segment escapes an id for use as one segment of a path. ':' stays as it is, as the vendors' documents have it; '/', '?',
// '%' and '#' cannot end the segment. It is false for what cannot be a segment in any form: "." and ".." are resolved
// even when escaped (RFC 3986, 6.2.2.3), and an empty one asks for another resource.
func Segment(id string) (string, bool) {
	if id == "" || id == "." || id == ".." {
		return "", false
	}
	return url.PathEscape(id), true
}

// NoSegment is the fault for an id that [Segment] refuses. Nothing was sent.
func NoSegment(id string) *providers.Fault {
	return &providers.Fault{Kind: providers.Invalid, Message: fmt.Sprintf("message_id %q cannot stand in a URL; nothing was sent", id)}
}

// Visible reports whether a credential is of printable ASCII without spaces. One that is not was copied badly, and may
// not be possible in a header.
func Visible(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

const (
	redacted = "[redacted]"

	// partial is the length from which a part of a secret is taken for the secret: vendors echo tokens cut short.
	partial = 12
)

// forms returns the secrets in every form in which a vendor may echo them.
func forms(secrets []string) []string {
	var all []string
	for _, s := range secrets {
		if s == "" {
			continue
		}
		all = append(all, s)
		for _, escaped := range []string{url.QueryEscape(s), url.PathEscape(s)} {
			if escaped != s {
				all = append(all, escaped)
			}
		}
	}
	return all
}

// maxLook bounds the text that is searched for secrets; nothing beyond it is shown.
const maxLook = 4 << 10

// line makes text one printable line of at most limit bytes without any of the secrets. Redaction comes first: a secret
// that is cut short would not be found afterwards.
func line(text string, secrets []string, limit int) string {
	if len(text) > maxLook {
		text = text[:maxLook]
	}
	return providers.Line(redact(text, secrets), limit)
}

// redact replaces every secret, and every part of one that has at least 12 bytes.
func redact(text string, secrets []string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		n := 0
		for _, s := range secrets {
			n = max(n, matches(text[i:], s))
		}
		if n == 0 {
			b.WriteByte(text[i])
			i++
			continue
		}
		b.WriteString(redacted)
		i += n
	}
	return b.String()
}

// matches returns how many bytes at the start of text are the secret or a long enough part of it.
func matches(text, secret string) int {
	least := min(len(secret), partial)
	if len(text) < least {
		return 0
	}
	best := 0
	for from := 0; from+least <= len(secret); from++ {
		if secret[from:from+least] != text[:least] {
			continue
		}
		n := least
		for n < len(text) && from+n < len(secret) && text[n] == secret[from+n] {
			n++
		}
		best = max(best, n)
	}
	return best
}
