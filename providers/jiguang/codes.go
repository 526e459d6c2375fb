package jiguang

import (
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// success is the code of an accepted recall, under HTTP 200 (seed 000).
const success = "0"

// codes is what UMS's codes mean.
//
// Sources: seed 000 for 1015055; the others https://docs.jiguang.cn/jums/server/message_code/, whose list is about sending.
// That those apply to recalls too is inferred: account, channel and rate are the same. UMS documents no code for a message
// that is too old, and none for one that it does not know; the window guard catches the former before any call.
var codes = rest.Table{
	"1015055": {Kind: providers.AlreadyRecalled},

	"4004": {Kind: providers.Invalid},     // invalid parameter
	"4005": {Kind: providers.Credentials}, // authentication failed: ChannelKey or MasterSecret
	"5000": {Kind: providers.Unavailable}, // server error

	"1015029": {Kind: providers.Throttled}, // today's quota of broadcasts is used up; not expected on a recall
	"1015030": {Kind: providers.Throttled}, // too many API requests

	"1015005": {Kind: providers.Credentials}, // the channel is closed
	"1015006": {Kind: providers.Credentials}, // 1015006 to 1015012: a kind of channel (app, SMS, WeChat official account, WeChat
	"1015007": {Kind: providers.Credentials}, // mini program, mail, Alipay, DingTalk) is not authorised, not enabled or
	"1015008": {Kind: providers.Credentials}, // invalid
	"1015009": {Kind: providers.Credentials},
	"1015010": {Kind: providers.Credentials},
	"1015011": {Kind: providers.Credentials},
	"1015012": {Kind: providers.Credentials},
	"1015025": {Kind: providers.Credentials}, // the channel's VIP package has lapsed

	// Parameters, templates and allow lists of a message that is sent; not expected on a recall.
	"1015004": {Kind: providers.Invalid},
	"1015023": {Kind: providers.Invalid},
	"1015026": {Kind: providers.Invalid},
	"1015031": {Kind: providers.Invalid},
	"1015032": {Kind: providers.Invalid},
	"1015034": {Kind: providers.Invalid},
	"1015038": {Kind: providers.Invalid},
	"1015046": {Kind: providers.Invalid},
	"1015073": {Kind: providers.Invalid},
	"1015074": {Kind: providers.Invalid},
	"1015075": {Kind: providers.Invalid},
	"1015084": {Kind: providers.Invalid},
	"1015085": {Kind: providers.Invalid},
	"1015094": {Kind: providers.Invalid},
	"1015095": {Kind: providers.Invalid},
	"1015097": {Kind: providers.Invalid},
}
