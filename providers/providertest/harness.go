// Package providertest is the conformance suite: what every provider must do, run against each of them by default and
// without flags.
//
// A provider's own test fills a [Harness] with what only it knows (its answers, its codes, its wire fixtures, where its
// ids travel) and calls [Run]. What a vendor does not have is named as a [Capability], so that nothing is left out in
// silence: the suite fails also if something is named as missing that is there.
package providertest

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/recallq/recallq/providers"
)

// Harness is what the suite must know of a provider.
type Harness struct {
	// Name is the provider's name, for example providers.Jiguang.
	Name string
	// New makes a provider with fixed credentials. The suite sets BaseURL, Timeout, MaxConns and Now.
	New func(opt providers.Options) (providers.Provider, error)
	// BaseURL is the vendor's own base URL with those credentials: what New uses when Options.BaseURL is empty.
	BaseURL string
	// Secrets are the secret values in every form in which they travel. The suite adds by itself what it sees on the wire: the
	// Authorization value, the usersig of a query, and the Signature header.
	Secrets []string
	// Request is a well-formed recall.
	Request providers.Request

	// Success is the body, under HTTP 200, by which the vendor accepts a recall.
	Success func(requestID string) string
	// Code is the success code, as it stands in a Receipt.
	Code string
	// Error is a body of the vendor's that refuses a recall. code is a JSON literal (a number, or a string in its quotes),
	// message and requestID are plain text.
	Error func(code, message, requestID string) string
	// Refusal is the HTTP status with which the vendor usually refuses: 400, or 200 for those that judge by code alone.
	Refusal int
	// Codes are all documented codes but success, with what they mean. It is written by hand from the documents, and apart
	// from the provider's own table, which Known lists.
	Codes []Code
	// Known are the codes in the provider's own table. The two must be the same codes.
	Known []string
	// Undocumented is a code that stands in no document.
	Undocumented string

	// ID reads the message id out of a request, as the vendor would.
	ID func(r *http.Request, body []byte) (string, error)
	// Authentic checks a request's credentials as the vendor would, at its time now.
	Authentic func(r *http.Request, body []byte, now time.Time) error

	// Wire are the fixtures written from the vendor's documents.
	Wire []Wire
	// Cannot names what the vendor does not have.
	Cannot []Capability
}

// Code is a documented code and what the provider must make of it.
type Code struct {
	Code         string
	Status       int // the HTTP status it comes with; zero means Harness.Refusal
	Kind         providers.Kind
	Ambiguous    bool
	WholeAccount bool
	// StatusMatters is true where the code means different things under different HTTP statuses.
	StatusMatters bool
}

// Capability names something that a vendor does not have, or has differently from the others.
type Capability string

// The capabilities that a vendor may lack, and the ways in which it may differ.
const (
	NoAlreadyRecalled Capability = "no code of its own for a message that was recalled before"
	NoNotFound        Capability = "no code for a message it does not know"
	NoWindowClosed    Capability = "no code for a recall that comes too late"
	NoThrottled       Capability = "no code for too many calls"
	NoReceiptID       Capability = "no request id in the answer that accepts"
	NoFaultID         Capability = "no request id in the answer that refuses"
	EmptySuccess      Capability = "an empty 200 accepts"
)

func (h Harness) cannot(c Capability) bool {
	for _, have := range h.Cannot {
		if have == c {
			return true
		}
	}
	return false
}

func (h Harness) refusal() int {
	if h.Refusal == 0 {
		return http.StatusBadRequest
	}
	return h.Refusal
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for name, missing := range map[string]bool{
		"Name": h.Name == "", "New": h.New == nil, "BaseURL": h.BaseURL == "", "Secrets": len(h.Secrets) == 0,
		"Request": h.Request.MessageID == "", "Success": h.Success == nil, "Error": h.Error == nil, "Codes": len(h.Codes) == 0,
		"Known": len(h.Known) == 0, "Undocumented": h.Undocumented == "", "ID": h.ID == nil, "Authentic": h.Authentic == nil,
		"Wire": len(h.Wire) == 0,
	} {
		if missing {
			t.Fatalf("the harness lacks %s", name)
		}
	}
	for _, part := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"wire", testWire},
		{"success", testSuccess},
		{"codes", testCodes},
		{"status", testStatus},
		{"retry after", testRetryAfter},
		{"body", testBody},
		{"connection", testConnection},
		{"one request", testOneRequest},
		{"secrets", testSecrets},
		{"ids", testIDs},
		{"context", testContext},
		{"concurrent", testConcurrent},
		{"options", testOptions},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, h)
		})
	}
}

// JSON returns text as a JSON string, for Harness.Success and Harness.Error.
func JSON(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can always be marshalled
	}
	return string(b)
}
