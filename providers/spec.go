package providers

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The providers' names: package, folder, configuration and wire name are the same word.
const (
	Jiguang   = "jiguang"
	EngageLab = "engagelab"
	TIMPush   = "timpush"
	TIMChat   = "timchat"
	RongCloud = "rongcloud"
)

// Field is the name of a field of a recall, as it stands in NDJSON, CSV headers and payloads.
type Field string

// The fields that only some providers use. Fields that all use (message_id, sent_at, ref) are not listed in a [Spec].
const (
	From                 Field = "from"
	To                   Field = "to"
	OfflinePushTitle     Field = "offline_push_title"
	OfflinePushDesc      Field = "offline_push_desc"
	IsAdmin              Field = "is_admin"
	IsDelete             Field = "is_delete"
	DisableUpdateLastMsg Field = "disable_update_last_msg"
	Extra                Field = "extra"
)

// Spec is what is known of a provider before any call: its fields, its ids, its window and its limits.
type Spec struct {
	Name  string // "timpush"
	Title string // "Tencent TIMPush"
	// IDName is the vendor's own name for the message id: "TaskId".
	IDName string
	// IDExample is a well-formed id, for messages to people.
	IDExample string
	// Required and Optional are the fields that the provider uses beside those that all use.
	Required, Optional []Field
	// Identity are the fields that, with provider, app and message_id, make a recall the same recall.
	Identity []Field
	// Window is how long after its sending a message can be taken back, unless the app's configuration says otherwise.
	Window time.Duration
	// WindowDocumented is true where the vendor itself documents Window.
	WindowDocumented bool
	// Limits are the provider's default limits on calls.
	Limits []Limit
	// AmbiguousNotFound is true where the vendor gives one answer for unknown, expired and already recalled messages, so that
	// each call has to be on record before it starts. See [Fault.Ambiguous].
	AmbiguousNotFound bool

	idPattern *regexp.Regexp
	idHint    string
	idTime    func(id string) (time.Time, bool)
}

// Limit is a limit on calls: at most Calls of them in any window of length Per, or in any calendar day.
type Limit struct {
	Calls    int
	Per      time.Duration  // a rolling window; zero if Day
	Day      bool           // a calendar day in TimeZone
	TimeZone *time.Location // for Day; nil means UTC
}

// String says the limit as a person would: "3 per day (Asia/Shanghai)".
func (l Limit) String() string {
	if l.Day {
		zone := "UTC"
		if l.TimeZone != nil {
			zone = l.TimeZone.String()
		}
		return fmt.Sprintf("%d per day (%s)", l.Calls, zone)
	}
	switch l.Per {
	case time.Second:
		return fmt.Sprintf("%d per second", l.Calls)
	case time.Minute:
		return fmt.Sprintf("%d per minute", l.Calls)
	case time.Hour:
		return fmt.Sprintf("%d per hour", l.Calls)
	}
	return fmt.Sprintf("%d per %s", l.Calls, l.Per)
}

// Uses reports whether the provider uses a field beside those that all use.
func (s Spec) Uses(f Field) bool {
	for _, list := range [][]Field{s.Required, s.Optional} {
		for _, have := range list {
			if have == f {
				return true
			}
		}
	}
	return false
}

// CheckID reports what is wrong with the form of a message id, and what to use instead. It accepts what the vendor might:
// a strict form is asked for only where the vendor documents it.
func (s Spec) CheckID(id string) error {
	if len(id) == 0 {
		return fmt.Errorf("is empty; give the vendor's %s", s.IDName)
	}
	if len(id) > 256 {
		return fmt.Errorf("is %d bytes long; at most 256 are allowed", len(id))
	}
	for _, c := range id {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("contains %q; only printable ASCII without spaces is allowed", c)
		}
	}
	if id == "." || id == ".." {
		return fmt.Errorf("is no id; give the vendor's %s, like %s", s.IDName, s.IDExample)
	}
	if s.idPattern != nil && !s.idPattern.MatchString(id) {
		return fmt.Errorf("%s", s.idHint)
	}
	return nil
}

// earliest is the time before which a time read from an id is taken for a coincidence: RongCloud's own example id reads
// as 1993.
var earliest = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)

// SentAt reads from a message id when the message was sent, where the provider's ids carry that. A time before 2015 or
// after now does not count: the id then only looks as if it carried one.
func (s Spec) SentAt(id string, now time.Time) (time.Time, bool) {
	if s.idTime == nil {
		return time.Time{}, false
	}
	t, ok := s.idTime(id)
	if !ok || t.Before(earliest) || t.After(now) {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// IDCarriesTime reports whether the provider's ids usually tell when the message was sent.
func (s Spec) IDCarriesTime() bool { return s.idTime != nil }

// Lookup returns the Spec of a provider by its name.
func Lookup(name string) (Spec, bool) {
	for _, s := range Specs() {
		if s.Name == name {
			return s, true
		}
	}
	return Spec{}, false
}

// Names returns the providers' names, in the contract's order.
func Names() []string {
	return []string{Jiguang, EngageLab, TIMPush, TIMChat, RongCloud}
}

const day = 24 * time.Hour

var (
	jiguangID   = regexp.MustCompile(`^v:\d+t:(\d{10})p:\d+n:\d+$`)
	timPushID   = regexp.MustCompile(`^([0-9a-f]{8})_[0-9a-f]+(_[0-9a-f]+)*$`)
	msgKey      = regexp.MustCompile(`^\d+_\d+_\d+$`)
	rongCloudID = regexp.MustCompile(`^[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$`)
	notANumber  = regexp.MustCompile(`[^0-9]`)
)

// Specs returns what is known of each provider, in the contract's order.
func Specs() []Spec {
	return []Spec{
		{
			// Window: seed 000, "in support of withdrawal, within 24 hours". Limits: documented to exist, without a number.
			Name: Jiguang, Title: "Jiguang UMS", IDName: "msgid", IDExample: "v:1t:1603707455p:27133n:2",
			Window: day, WindowDocumented: true,
			idTime: jiguangTime,
		},
		{
			// Window: seed 001, "messages within one day". Limit: half of the documented 500 requests a second of an
			// AppKey, because live traffic shares it.
			Name: EngageLab, Title: "EngageLab AppPush", IDName: "msg_id", IDExample: "1828256757",
			Window: day, WindowDocumented: true,
			Limits:            []Limit{{Calls: 250, Per: time.Second}},
			AmbiguousNotFound: true,
		},
		{
			// Window and limit: seed 002, codes 90052 and 90051.
			Name: TIMPush, Title: "Tencent TIMPush", IDName: "TaskId", IDExample: "660cc447_537ed82a_200000cd7ee17f5_84035729_bc614e",
			Optional: []Field{OfflinePushTitle, OfflinePushDesc},
			Window:   day, WindowDocumented: true,
			Limits:    []Limit{{Calls: 1, Per: time.Second}},
			idPattern: notANumber,
			idHint:    "is a number: that is a scheduled push's id, which cannot be recalled; give the TaskId of the push",
			idTime:    timPushTime,
		},
		{
			// Tencent documents no window for one-to-one messages; 24 h is our default. Limit: half of what the vendor
			// grants an account, because live traffic shares it.
			Name: TIMChat, Title: "Tencent Chat (one-to-one)", IDName: "MsgKey", IDExample: "31906_833502_1572869830",
			Required:  []Field{From, To},
			Identity:  []Field{From, To},
			Window:    day,
			Limits:    []Limit{{Calls: 100, Per: time.Second}},
			idPattern: msgKey,
			idHint: "is not a MsgKey, which has the form MsgSeq_MsgRandom_MsgTime like 31906_833502_1572869830; " +
				"the client SDK's msgID is not a MsgKey",
			idTime: timChatTime,
		},
		{
			// RongCloud documents no window; 24 h is our default. Limits: seed 004, "up to 2 times per hour, and a maximum of
			// 3 times per calendar day"; the day's time zone is not stated, China's is assumed.
			Name: RongCloud, Title: "RongCloud", IDName: "messageUID", IDExample: "BC52-ESJ0-022O-001H",
			Required: []Field{From},
			Optional: []Field{IsAdmin, IsDelete, DisableUpdateLastMsg, Extra},
			Identity: []Field{From},
			Window:   day,
			Limits: []Limit{
				{Calls: 2, Per: time.Hour},
				{Calls: 3, Day: true, TimeZone: Shanghai()},
			},
			idPattern: rongCloudID,
			idHint:    "is not a messageUID, which has four groups of four like BC52-ESJ0-022O-001H",
			idTime:    rongCloudTime,
		},
	}
}

// Shanghai returns China's time zone, also where the machine has no time zone database: China has had no clock change
// since 1991.
func Shanghai() *time.Location {
	if l, err := time.LoadLocation("Asia/Shanghai"); err == nil {
		return l
	}
	return time.FixedZone("Asia/Shanghai", 8*60*60)
}

// jiguangTime reads the Unix seconds after "t:" (evident from the vendor's example, documented nowhere).
func jiguangTime(id string) (time.Time, bool) {
	m := jiguangID.FindStringSubmatch(id)
	if m == nil {
		return time.Time{}, false
	}
	return unixSeconds(m[1], 10)
}

// timPushTime reads the first field, hexadecimal Unix seconds (evident from the vendor's example, documented nowhere).
func timPushTime(id string) (time.Time, bool) {
	m := timPushID.FindStringSubmatch(id)
	if m == nil {
		return time.Time{}, false
	}
	return unixSeconds(m[1], 16)
}

// timChatTime reads the third field, MsgTime: Unix seconds
// (https://tencentcloud.com/document/product/1047/68952). It does without the pattern: this is the provider with a million rows.
func timChatTime(id string) (time.Time, bool) {
	_, rest, _ := strings.Cut(id, "_")
	_, third, ok := strings.Cut(rest, "_")
	if !ok {
		return time.Time{}, false
	}
	return unixSeconds(third, 10)
}

// rongCloudTime reads the highest 42 of the 80 bits, Unix milliseconds (https://juejin.cn/post/6844903945660268558; the
// alphabet is 0-9A-V, which that article has wrong).
func rongCloudTime(id string) (time.Time, bool) {
	if !rongCloudID.MatchString(id) {
		return time.Time{}, false
	}
	// 9 of the 16 characters hold the 42 bits, and 3 bits more.
	v, err := strconv.ParseUint(strings.ReplaceAll(id, "-", "")[:9], 32, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(v >> 3)), true
}

func unixSeconds(digits string, base int) (time.Time, bool) {
	s, err := strconv.ParseInt(digits, base, 64)
	if err != nil || s > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(s, 0), true
}
