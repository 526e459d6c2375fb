package engagelab

import (
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// codes is what EngageLab's codes mean. The HTTP status does not tell: 21009 (internal error), 23008 (too many calls) and
// 23009 (address not allowed) all come with HTTP 400, and 21059, 21306, 27008 and 27009 (bad parameters) with HTTP 401.
//
// Sources: seed 001 for 21003; the others are the error list of EngageLab's "Create Push API" page, as digested in the
// vendor's agent skill engagelab-apppush (https://v50.ai/skills/engagelab-app-push, error-codes.md). That list is about
// sending; that it applies to recalls is inferred.
var codes = rest.Table{
	// "Parameter value is invalid,msg_id not exist": given alike for a message that is unknown, too old, or recalled before
	// (inferred: seed 001 supports neither and lists no other code). Only our own record tells them apart.
	"21003": {Kind: providers.NotFound, Ambiguous: true},

	"21004": {Kind: providers.Credentials}, // 401: AppKey or Master Secret
	"21008": {Kind: providers.Credentials}, // 400: invalid app_key
	"21038": {Kind: providers.Credentials}, // 401: VIP package expired or not activated
	"23009": {Kind: providers.Credentials}, // 400: our address is not in the app's allow list
	"27001": {Kind: providers.Credentials}, // 401: no credentials

	"23008": {Kind: providers.Throttled}, // 400: 500 calls a second

	"21009": {Kind: providers.Unavailable}, // 400: internal error
	"21030": {Kind: providers.Unavailable}, // 503: internal time-out
	"27000": {Kind: providers.Unavailable}, // 500: internal memory error
	"27002": {Kind: providers.Unavailable}, // unknown error

	"20101": {Kind: providers.Invalid}, // 400: push parameters
	"21001": {Kind: providers.Invalid}, // 405: wrong HTTP method
	"21002": {Kind: providers.Invalid}, // 400: a parameter is missing
	"21005": {Kind: providers.Invalid}, // 400: body too large
	"21011": {Kind: providers.Invalid}, // 400: no target
	"21015": {Kind: providers.Invalid}, // 400: parameters
	"21016": {Kind: providers.Invalid}, // 400: parameters
	"21050": {Kind: providers.Invalid}, // 400: 21050 to 21058: live activities and voip
	"21051": {Kind: providers.Invalid},
	"21052": {Kind: providers.Invalid},
	"21053": {Kind: providers.Invalid},
	"21054": {Kind: providers.Invalid},
	"21055": {Kind: providers.Invalid},
	"21056": {Kind: providers.Invalid},
	"21057": {Kind: providers.Invalid},
	"21058": {Kind: providers.Invalid},
	"21059": {Kind: providers.Invalid}, // 401: parameters, not credentials
	"21306": {Kind: providers.Invalid}, // 401: parameters, not credentials
	"23006": {Kind: providers.Invalid}, // 400: parameters
	"27008": {Kind: providers.Invalid}, // 401: parameters, not credentials
	"27009": {Kind: providers.Invalid}, // 401: parameters, not credentials
	"27303": {Kind: providers.Invalid}, // empty plan id
}
