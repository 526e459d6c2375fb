package tencent

import (
	"strconv"

	"github.com/recallq/recallq/providers"
)

// Where the codes' meanings are from. A mark stands for the meaning; the kind is our reading of it.
const (
	sourceREST   = "https://cloud.tencent.com/document/product/679/131708"           // Tencent's table of common REST codes
	sourceHeader = "V2TIMErrorCode.h of the Chat SDK"                                // the SDK's own list of server codes
	sourcePHP    = "a PHP SDK's copy of Tencent's table of common REST codes"        // older than sourceREST
	sourceIssue  = "https://github.com/tencentyun/imsdk_restapi-nodejs-sdk/issues/1" // a user's report
)

// Code is one code of Tencent's answers, or a range of them.
type Code struct {
	From, To int64 // To is zero for a single code
	Kind     providers.Kind
	Meaning  string
	Source   string // a URL or a document
}

// Codes that mean more than their kind.
const (
	codeExpired = "70001" // a UserSig's age, which a new one mends
	codeVoid    = "70052" // likewise
	codeAllAPIs = "60011" // about all APIs of an SDKAppID, so that both of its lanes must wait
)

// CommonCodes returns the codes that every API of Tencent Chat may answer with, 60000 to 79999, and two neighbours. The
// range at its end is ours: what is left of the block about UserSigs has the kind that all of the block has. Any other code that
// nobody documented goes by the HTTP status.
func CommonCodes() []Code {
	return []Code{
		{60002, 0, providers.Misconfigured, "HTTP parse error; check the URL", sourceREST},
		{60003, 0, providers.Invalid, "the request's JSON cannot be parsed", sourceREST},
		{60004, 0, providers.Credentials, "account or signature in URL or body is wrong", sourceREST},
		{60005, 0, providers.Credentials, "account or signature in URL or body is wrong", sourceREST},
		{60006, 0, providers.Credentials, "the SDKAppID is invalid", sourceREST},
		{60007, 0, providers.Throttled, "REST calls are too frequent", sourceREST},
		{60008, 0, providers.Unavailable, "service request timed out, or HTTP format error", sourceREST},
		{60009, 0, providers.Misconfigured, "wrong resource; check the URL", sourceREST},
		{60010, 0, providers.Credentials, "needs an app admin", sourceREST},
		{60011, 0, providers.Throttled, "requests of this SDKAppID are too frequent", sourceREST},
		{60012, 0, providers.Misconfigured, "the SDKAppID is missing in the URL", sourceREST},
		{60013, 0, providers.Unavailable, "the response's JSON cannot be parsed", sourceREST},
		{60014, 0, providers.Unavailable, "account exchange timed out", sourceREST},
		{60015, 0, providers.Invalid, "an account field has the wrong type", sourceREST},
		{60016, 0, providers.Credentials, "the SDKAppID is disabled", sourceREST},
		{60017, 0, providers.Credentials, "the request is forbidden", sourceREST},
		{60018, 0, providers.Throttled, "too many requests; try later", sourceREST},
		{60019, 0, providers.Throttled, "too many requests; try later", sourceREST},
		{60020, 0, providers.Credentials, "the package has expired or was not bought; a new one works after 5 minutes", sourceREST},
		{60021, 0, providers.Credentials, "the source IP is not allowed", sourceREST},

		{70001, 0, providers.Credentials, "the UserSig has expired", sourceREST},
		{70002, 0, providers.Credentials, "the UserSig is empty", sourceHeader},
		{70003, 0, providers.Credentials, "the UserSig cannot be parsed", sourceREST},
		{70005, 0, providers.Credentials, "the UserSig failed verification", sourceHeader},
		{70009, 0, providers.Credentials, "the UserSig was made with another app's key", sourceREST},
		{70013, 0, providers.Credentials, "the UserSig is another identifier's", sourceREST},
		{70014, 0, providers.Credentials, "the UserSig is another SDKAppID's", sourceREST},
		{70016, 0, providers.Credentials, "no key found; check SDKAppID and data centre", sourceREST},
		{70020, 0, providers.Credentials, "SDKAppID not found; check the data centre", sourceREST},
		{70050, 0, providers.Credentials, "verification failed too often; try again after 1 minute", sourceREST},
		{70051, 0, providers.Credentials, "the account is on the blocklist", sourceREST},
		{70052, 0, providers.Credentials, "the UserSig is no longer valid", sourceHeader},
		{70101, 0, providers.Credentials, "the ticket has expired", sourceHeader},
		{70107, 0, providers.Invalid, "the user's account was not imported", sourceREST},
		{70114, 0, providers.Invalid, "restricted for security reasons", sourceHeader},
		{70169, 0, providers.Unavailable, "internal timeout; try again", sourceHeader},
		{70202, 0, providers.Unavailable, "internal timeout; try again", sourcePHP},
		{70206, 0, providers.Invalid, "bad batch count", sourceHeader},
		{70346, 0, providers.Credentials, "seen with a bad UserSig", sourceIssue},
		{70398, 0, providers.Invalid, "the free edition's number of accounts is used up", sourceHeader},
		{70402, 0, providers.Invalid, "invalid parameter", sourceHeader},
		{70403, 0, providers.Credentials, "needs an app admin", sourceHeader},
		{70500, 0, providers.Unavailable, "internal error; try again", sourceHeader},
		{72001, 0, providers.Invalid, "the capability is not enabled in the console", sourceHeader},

		{80001, 0, providers.Invalid, "the text was filtered", sourceHeader},
		{80002, 0, providers.Invalid, "the body is too large", sourceHeader},

		{70001, 70052, providers.Credentials, "UserSigs", "inferred"},
	}
}

// codeTable finds a code's kind. A single code goes before a range, and an API's own code before a common one.
type codeTable struct {
	single map[string]Code
	ranges []Code
}

func newCodeTable(own []Code) codeTable {
	t := codeTable{single: map[string]Code{}}
	for _, c := range append(CommonCodes(), own...) {
		if c.To == 0 {
			t.single[strconv.FormatInt(c.From, 10)] = c
		} else {
			t.ranges = append(t.ranges, c)
		}
	}
	return t
}

// guess returns the kind of the range that a code falls into.
func (t codeTable) guess(code string) (providers.Kind, bool) {
	n, err := strconv.ParseInt(code, 10, 64)
	if err != nil {
		return "", false
	}
	for _, r := range t.ranges {
		if r.From <= n && n <= r.To {
			return r.Kind, true
		}
	}
	return "", false
}
