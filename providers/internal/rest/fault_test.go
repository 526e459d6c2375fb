package rest

import (
	"net/http"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
)

// A 503 that says when to come back is about the account, not about one recall: the whole lane has to wait.
func TestA5xxWithRetryAfterIsThrottled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		wait  time.Duration
		known *Class
		want  providers.Kind
	}{
		{"503 that says when", 3 * time.Second, nil, providers.Throttled},
		{"503 that does not", 0, nil, providers.Unavailable},
		{"the vendor's own code comes first", 3 * time.Second, &Class{Kind: providers.Unavailable}, providers.Unavailable},
	} {
		a := &Answer{Status: 503, Header: http.Header{}, RetryAfter: c.wait}
		e := Envelope{}
		if c.known != nil {
			e.Code = "21030"
		}
		f := a.Fault(e, c.known)
		// Of a 503 only the vendor's own code can mean that it had begun.
		if f.Kind != c.want || f.RetryAfter != c.wait || f.MaybeDone != (c.known != nil) {
			t.Errorf("%s: %s after %v, maybe done %v; want %s", c.name, f.Kind, f.RetryAfter, f.MaybeDone, c.want)
		}
	}
}
