package simulator

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RongCloud's recall of broadcasts, seed 004. The seed's example has another API's path; its own is that of the vendor's SDKs
// (github.com/rongcloud/server-sdk-go). Codes: https://docs.nexconn.ai/platform-chat-api/code.
func rongcloud() *vendor {
	return &vendor{
		name: RongCloud, method: http.MethodPost, prefix: "/message/broadcast/recall.json", repeats: true,
		words:        map[string]string{"internal": "1000", "throttled": "1008", "credentials": "1004", "invalid": "1002"},
		read:         readRongCloud,
		authenticate: rongAuthenticate,
		success: func(asked) answer {
			return answer{status: http.StatusOK, code: "200", kind: "application/json; charset=utf-8", body: `{"code":200}`}
		},
		fail:        rongFail,
		sentAt:      rongTime,
		plausible:   messageUID.MatchString,
		wrongMethod: func() answer { return notAllowed(http.MethodPost) },
	}
}

func rongFail(code, message string) answer {
	texts := map[string]string{
		"404": "Not Found", "1000": "server internal error, please retry", "1001": "App Secret is wrong", "1002": "parameter error",
		"1003": "no POST data", "1004": "signature error", "1005": "parameter is too long", "1006": "app is locked or deleted",
		"1007": "access denied by IP restriction", "1008": "call frequency exceeds limit", "1009": "service is not enabled",
		"1050": "internal service timeout",
	}
	statuses := map[string]int{
		"200": 200, "404": 404, "1000": 500, "1001": 401, "1004": 401, "1006": 401, "1007": 401, "1008": 429, "1009": 430,
		"1015": 200, "1016": 403, "1050": 504, "2007": 403,
	}
	return answer{
		status: cmp.Or(statuses[code], http.StatusBadRequest), code: code, kind: "application/json; charset=utf-8",
		body: `{"code":` + code + `,"errorMessage":` + quote(cmp.Or(message, texts[code], "error")) + `}`,
	}
}

// rongHeader reads a header in either of its names (https://docs.rongcloud.io/platform-chat-api/auth).
func rongHeader(r *http.Request, name string) string {
	return cmp.Or(r.Header.Get(name), r.Header.Get("RC-"+name))
}

// longestNonce is documented on the same page. The vendor's own SDK sends 19 digits at times, so it is asked for only
// without Options.Lenient.
const longestNonce = 18

var digits = regexp.MustCompile(`^\d+$`)

// rongAuthenticate checks the signature: lower-case hex SHA-1 of secret, nonce and timestamp. The documents have the timestamp
// in milliseconds, the vendor's SDK sends seconds; how old it is is not looked at.
func rongAuthenticate(s *Simulator, r *http.Request, q asked) *answer {
	nonce, stamp, signature := rongHeader(r, "Nonce"), rongHeader(r, "Timestamp"), rongHeader(r, "Signature")
	account, known := s.accounts.get(RongCloud, q.account)
	refuse := func(code, message string) *answer { a := rongFail(code, message); return &a }
	if !known {
		return refuse("1001", "")
	}
	if nonce == "" || signature == "" || !digits.MatchString(stamp) {
		return refuse("1004", "")
	}
	if len(nonce) > longestNonce && !s.opt.Lenient {
		return refuse("1004", "nonce is longer than 18 characters")
	}
	sum := sha1.Sum([]byte(account.Secret + nonce + stamp))
	if signature != hex.EncodeToString(sum[:]) {
		return refuse("1004", "")
	}
	return nil
}

func readRongCloud(r *http.Request, _ string, body []byte) asked {
	q := asked{account: rongHeader(r, "App-Key")}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" || len(body) == 0 {
		q.problem = "1003"
		return q
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		q.problem, q.reason = "1002", "the form cannot be read"
		return q
	}
	q.id, q.from = form.Get("messageUID"), form.Get("fromUserId")
	q.details = Details{
		SentTime: form.Get("sentTime"), IsAdmin: form.Get("isAdmin"), IsDelete: form.Get("isDelete"),
		DisableUpdateLastMsg: form.Get("disableUpdateLastMsg"), Extra: form.Get("extra"),
		RequestID: r.Header.Get("X-Request-ID"),
	}
	if name := wrongField(form); name != "" {
		q.problem, q.reason = "1002", name+" is missing or not valid"
	}
	if extra := undocumented(form); extra != "" {
		q.pedantic, q.why = "1002", extra+" is not documented"
	}
	if r.URL.RawQuery != "" {
		q.pedantic, q.why = "1002", "no query is documented"
	}
	if len(q.details.RequestID) > 36 {
		q.pedantic, q.why = "1005", "X-Request-ID is longer than 36 characters"
	}
	return q
}

type rongField struct {
	name     string
	form     *regexp.Regexp
	required bool
}

// rongFields are the parameters of seed 004, with what they may hold.
var rongFields = []rongField{
	{"fromUserId", regexp.MustCompile(`^.+$`), true},
	{"messageUID", regexp.MustCompile(`^.+$`), true},
	{"sentTime", digits, false},
	{"isAdmin", regexp.MustCompile(`^[01]$`), false},
	{"isDelete", regexp.MustCompile(`^[01]$`), false},
	{"extra", regexp.MustCompile(`(?s)^.*$`), false},
	{"disableUpdateLastMsg", regexp.MustCompile(`^(true|false)$`), false},
}

func wrongField(form url.Values) string {
	for _, f := range rongFields {
		values, given := form[f.name]
		if !given && !f.required {
			continue
		}
		if len(values) != 1 || !f.form.MatchString(values[0]) {
			return f.name
		}
	}
	return ""
}

func undocumented(form url.Values) string {
	for name := range form {
		known := slices.ContainsFunc(rongFields, func(f rongField) bool { return f.name == name })
		if !known {
			return cut(name, 40)
		}
	}
	return ""
}

var messageUID = regexp.MustCompile(`^[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$`)

// rongTime reads the highest 42 of an id's 80 bits: Unix milliseconds. The digits are those of base 32, 0-9 and A-V.
func rongTime(id string) (time.Time, bool) {
	if !messageUID.MatchString(id) {
		return time.Time{}, false
	}
	high, err := strconv.ParseUint(strings.ReplaceAll(id, "-", "")[:9], 32, 64) // 45 bits
	return time.UnixMilli(int64(high >> 3)), err == nil
}
