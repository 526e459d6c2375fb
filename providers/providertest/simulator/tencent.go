package simulator

import (
	"cmp"
	"encoding/json"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tencent TIMPush, seed 002.
func timpush() *vendor {
	return &vendor{
		name: TIMPush, method: http.MethodPost, prefix: "/v4/timpush/revoke", window: day,
		words: map[string]string{
			"internal": "91000", "throttled": "90051", "credentials": "70009", "invalid": "90001",
			"unknown": "90049", "already": "90050", "expired": "90052",
		},
		read:         readTIMPush,
		authenticate: tencentAuthenticate,
		success:      func(asked) answer { return tencentOK() },
		fail:         tencentFail,
		sentAt:       timeIn(regexp.MustCompile(`^([0-9a-f]{8})_[0-9a-f]+(?:_[0-9a-f]+)*$`), 16),
		// A number is a scheduled push's id, which cannot be recalled (https://intl.cloud.tencent.com/document/product/1047/78842).
		plausible:   func(id string) bool { return strings.Trim(id, "0123456789") != "" },
		wrongMethod: func() answer { return notAllowed(http.MethodPost) },
	}
}

// Tencent Chat, recall of one-to-one messages by the admin, seed 003. There is no window
// (https://trtc.io/document/35015: "messages sent at any time").
func timchat() *vendor {
	return &vendor{
		name: TIMChat, method: http.MethodPost, prefix: "/v4/openim/admin_msgwithdraw",
		words: map[string]string{
			"internal": "91000", "throttled": "60011", "credentials": "70009", "invalid": "90054",
			"unknown": "20022", "already": "20023",
		},
		read:         readTIMChat,
		authenticate: tencentAuthenticate,
		success:      func(asked) answer { return tencentOK() },
		fail:         tencentFail,
		sentAt:       timeIn(regexp.MustCompile(`^\d+_\d+_(\d+)$`), 10),
		plausible:    msgKey.MatchString,
		wrongMethod:  func() answer { return notAllowed(http.MethodPost) },
	}
}

// msgKey is MsgSeq_MsgRandom_MsgTime (https://tencentcloud.com/document/product/1047/68952).
var msgKey = regexp.MustCompile(`^\d+_\d+_\d+$`)

func tencentOK() answer {
	return answer{status: http.StatusOK, code: "0", kind: "application/json",
		body: `{"ActionStatus": "OK","ErrorInfo": "","ErrorCode": 0}`}
}

// tencentFail answers with a code. The texts of 9xxxx and 2xxxx are those of seeds 002 and 003, the others paraphrase
// https://cloud.tencent.com/document/product/679/131708. The HTTP status is always 200
// (https://www.tencentcloud.com/document/product/1047/74196).
func tencentFail(code, message string) answer {
	texts := map[string]string{
		"20022": "The message to recall does not exist. Please check.", "20023": "The message has been recalled.",
		"60002": "HTTP parse error, please check the URL", "60003": "HTTP request JSON parse error",
		"60004": "account or signature in the URL is wrong", "60007": "REST API call frequency exceeds limit",
		"60009": "wrong resource, please check the URL", "60011": "SDKAppID request frequency exceeds limit",
		"60012": "SDKAppID is missing in the URL",
		"70001": "UserSig expired", "70002": "UserSig is empty", "70003": "UserSig parse failed", "70005": "UserSig verification failed",
		"70009": "UserSig verification failed: made with the key of another app", "70013": "identifier does not match the UserSig",
		"70014": "SDKAppID does not match the UserSig", "70020": "SDKAppID not found, check the data center",
		"70050": "UserSig verification failed too often, please retry after 1 minute",
		"90001": "Fail to Parse json data of body, Please check it",
		"90003": "The To_Account field is missing in the JSON request packet or the account it specifies does not exist.",
		"90008": "The From_Account field is missing in the JSON request packet or the account it specifies does not exist.",
		"90009": "The request requires app admin permissions.",
		"90049": "Recall TaskId is illegal and there is no push record.",
		"90050": "Repeated recall. Push tasks that have already been recalled cannot be called repeatedly.",
		"90051": "Recall is too frequent. The recall frequency limit is 1 time per second.",
		"90052": "The recall validity period has been exceeded. The recall must be within 24 hours.",
		"90053": "Invalid recall. Push with OnlineOnlyFlag=0, but the recall does not include OfflinePushInfo.",
		"90054": "Invalid MsgKey.", "91000": "Internal service error. Try again.",
	}
	return answer{
		status: http.StatusOK, code: code, kind: "application/json",
		body: `{"ActionStatus": "FAIL","ErrorInfo": ` + quote(cmp.Or(message, texts[code], "error")) + `,"ErrorCode": ` + code + `}`,
	}
}

// readURL reads what both APIs have in the query (https://www.tencentcloud.com/document/product/1047/34620: names and values
// are case-sensitive).
func readURL(r *http.Request) asked {
	query := r.URL.Query()
	q := asked{account: query.Get("sdkappid")}
	if _, err := strconv.ParseUint(query.Get("random"), 10, 32); err != nil {
		q.problem, q.reason = "60002", "random must be a 32-bit unsigned integer"
	}
	if query.Get("contenttype") != "json" {
		q.problem, q.reason = "60002", "contenttype must be json"
	}
	if !only(r, "sdkappid", "identifier", "usersig", "random", "contenttype") {
		q.pedantic, q.why = "60002", "the query must be sdkappid, identifier, usersig, random and contenttype, each once"
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			q.pedantic, q.why = "60003", "the body's content type must be application/json"
		}
	}
	return q
}

// object is a JSON object whose names are read as they stand: Go's decoder would take "taskid" for TaskId, Tencent's documents
// say that names are case-sensitive.
type object map[string]json.RawMessage

// readObject reads a body: one JSON object. The result is nil if it is none.
func readObject(body []byte) object {
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return nil
	}
	return o
}

// text reads a string; a missing one is empty. It reports false for anything else.
func (o object) text(name string) (string, bool) {
	var s string
	if raw, given := o[name]; given && json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// only reports whether the object has no other names than these.
func (o object) only(names ...string) bool {
	for name := range o {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

func readTIMPush(r *http.Request, _ string, body []byte) asked {
	q := readURL(r)
	o := readObject(body)
	id, ok := o.text("TaskId")
	q.id = id
	q = q.also(o == nil || !ok, "90001").also(id == "", "90049").strictly(o.only("TaskId", "OfflinePushInfo"))
	raw := o["OfflinePushInfo"]
	if len(raw) == 0 || string(raw) == "null" {
		return q
	}
	info := readObject(raw)
	title, isTitle := info.text("Title")
	desc, isDesc := info.text("Desc")
	_, isExt := info.text("Ext")
	q.details = Details{HasOfflinePush: true, Title: title, Desc: desc}
	return q.also(info == nil || !isTitle || !isDesc || !isExt, "90001").
		strictly(info.only("PushFlag", "Title", "Desc", "Ext"))
}

func readTIMChat(r *http.Request, _ string, body []byte) asked {
	q := readURL(r)
	o := readObject(body)
	var isFrom, isTo, isKey bool
	q.from, isFrom = o.text("From_Account")
	q.to, isTo = o.text("To_Account")
	q.id, isKey = o.text("MsgKey")
	return q.also(o == nil || !isFrom || !isTo || !isKey, "90001").
		also(q.from == "", "90008").also(q.to == "", "90003").also(!msgKey.MatchString(q.id), "90054").
		strictly(o.only("From_Account", "To_Account", "MsgKey"))
}

// also notes a problem, unless one was found before.
func (q asked) also(bad bool, code string) asked {
	if bad && q.problem == "" {
		q.problem = code
	}
	return q
}

// strictly notes names that are in no document, unless something else was found before.
func (q asked) strictly(known bool) asked {
	if !known && q.pedantic == "" {
		q.pedantic, q.why = "90001", "a name in the body is in no document"
	}
	return q
}
