package simulator

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// Jiguang UMS, seed 000. Codes beside 0 and 1015055: https://docs.jiguang.cn/jums/server/message_code/; which HTTP status
// goes with them is a guess after https://docs.jiguang.cn/en/jums/server/http_status_code, which knows 200, 400, 401, 403, 500.
func jiguang() *vendor {
	return &vendor{
		name: Jiguang, method: http.MethodPost, prefix: "/v1/retract/", window: day,
		words: map[string]string{
			"internal": "5000", "throttled": "1015030", "credentials": "4005", "invalid": "4004",
			"unknown": "4004", "already": "1015055", "expired": "4004",
		},
		read: func(r *http.Request, segment string, body []byte) asked { return readPath(r, segment, body, "4004") },
		authenticate: func(s *Simulator, r *http.Request, _ asked) *answer {
			if s.accounts.basic(Jiguang, r) {
				return nil
			}
			a := jiguangFail("4005", "")
			return &a
		},
		success: func(asked) answer {
			return answer{status: http.StatusOK, code: "0", kind: "application/json", body: `{ "code":0, "message":"success" }`}
		},
		fail:        jiguangFail,
		sentAt:      timeIn(regexp.MustCompile(`^v:\d+t:(\d{10})p:\d+n:\d+$`), 10),
		plausible:   func(string) bool { return true }, // the form of an id is documented nowhere
		wrongMethod: func() answer { return notAllowed(http.MethodPost) },
	}
}

func jiguangFail(code, message string) answer {
	texts := map[string]string{
		"1015055": "消息已经被撤回", "1015030": "API请求超过频率限制，请稍后再试", "4004": "参数不合法",
		"4005": "鉴权失败，请检查ChannelKey和MasterSecret", "5000": "服务端错误",
	}
	statuses := map[string]int{"0": http.StatusOK, "4005": http.StatusUnauthorized, "5000": http.StatusInternalServerError}
	return answer{
		status: cmp.Or(statuses[code], http.StatusBadRequest), code: code, kind: "application/json",
		body: `{ "code":` + code + `, "message":` + quote(cmp.Or(message, cmp.Or(texts[code], "error"))) + ` }`,
	}
}

// EngageLab AppPush, seed 001. Codes beside 21003 are those of the vendor's "Create Push API" page, as far as they are known.
func engagelab() *vendor {
	return &vendor{
		name: EngageLab, method: http.MethodDelete, prefix: "/v4/push/withdraw/", window: day,
		words: map[string]string{
			"internal": "27000", "throttled": "23008", "credentials": "21004", "invalid": "20101",
			"unknown": "21003", "already": "21003", "expired": "21003",
		},
		read: func(r *http.Request, segment string, body []byte) asked { return readPath(r, segment, body, "21015") },
		authenticate: func(s *Simulator, r *http.Request, _ asked) *answer {
			if s.accounts.basic(EngageLab, r) {
				return nil
			}
			a := engagelabFail("21004", "")
			if r.Header.Get("Authorization") == "" {
				a = engagelabFail("27001", "")
			}
			return &a
		},
		success: func(q asked) answer {
			return answer{status: http.StatusOK, kind: "application/json", body: `{ "request_id": "", "msg_id": ` + quote(q.id) + ` }`}
		},
		fail:        engagelabFail,
		sentAt:      func(string) (time.Time, bool) { return time.Time{}, false },
		plausible:   regexp.MustCompile(`^\d{1,20}$`).MatchString,
		wrongMethod: func() answer { a := engagelabFail("21001", ""); a.allow = http.MethodDelete; return a },
	}
}

func engagelabFail(code, message string) answer {
	texts := map[string]string{
		"21003": "Parameter value is invalid,msg_id not exist", "20101": "Push parameter is invalid",
		"21001": "Only support HTTP Delete method", "21004": "Basic authentication failed", "21015": "Parameter validation failed",
		"21009": "Internal system error", "21030": "Inner service timeout, please retry later",
		"21038": "No push permission: VIP expired or not activated", "23008": "Interface is rate limited, QPS limit (500) reached",
		"23009": "IP is not in the whitelist of the app", "27000": "Internal memory error, please retry",
		"27001": "Authentication information is empty",
	}
	statuses := map[string]int{
		"21001": 405, "21004": 401, "21030": 503, "21038": 401, "21059": 401, "21306": 401, "27000": 500, "27001": 401,
		"27002": 500, "27008": 401, "27009": 401,
	}
	return answer{
		status: cmp.Or(statuses[code], http.StatusBadRequest), code: code, kind: "application/json; charset=utf-8",
		body: `{ "error": { "code": ` + code + `, "message": ` + quote(cmp.Or(message, cmp.Or(texts[code], "error"))) + ` } }`,
	}
}

// readPath reads a call that has all in its path. Neither vendor documents a query or a body.
func readPath(r *http.Request, segment string, body []byte, pedantic string) asked {
	user, _, _ := r.BasicAuth()
	q := asked{account: user}
	id, err := url.PathUnescape(segment)
	if err != nil {
		id = segment
	}
	q.id = id
	if len(body) > 0 || r.URL.RawQuery != "" {
		q.pedantic, q.why = pedantic, "neither body nor query is documented"
	}
	return q
}

func notAllowed(method string) answer {
	a := plain(http.StatusMethodNotAllowed, "405 method not allowed")
	a.allow = method
	return a
}

// timeIn reads Unix seconds from an id.
func timeIn(form *regexp.Regexp, base int) func(string) (time.Time, bool) {
	return func(id string) (time.Time, bool) {
		m := form.FindStringSubmatch(id)
		if m == nil {
			return time.Time{}, false
		}
		n, err := strconv.ParseInt(m[1], base, 64)
		return time.Unix(n, 0), err == nil
	}
}
