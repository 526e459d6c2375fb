package timpush

import (
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/tencent"
)

// Where the codes' meanings are from.
const (
	seed         = "seed 002"
	sourcePush   = "https://www.tencentcloud.com/document/product/1047/74196" // the codes of timpush/push
	sourceHeader = "V2TIMErrorCode.h of the Chat SDK"
)

// codes returns the codes of timpush/revoke beside Tencent's common ones. Those of timpush/push are not expected here, but
// the two share a service.
func codes() []tencent.Code {
	list := []tencent.Code{
		{From: 90001, Kind: providers.Invalid, Meaning: "the request's JSON cannot be parsed", Source: seed},
		{From: 90009, Kind: providers.Credentials, Meaning: "needs an app admin", Source: seed},
		{From: 90024, Kind: providers.Throttled, Meaning: "pushes are too frequent", Source: sourcePush},
		{From: 90045, Kind: providers.Credentials, Meaning: "the push feature is not enabled", Source: sourcePush},
		{From: 90047, Kind: providers.Throttled, Meaning: "the day's pushes are used up", Source: sourcePush},
		{From: 90049, Kind: providers.NotFound, Meaning: "the TaskId is invalid; there is no such push", Source: seed},
		{From: 90050, Kind: providers.AlreadyRecalled, Meaning: "recalled before", Source: seed},
		{From: 90051, Kind: providers.Throttled, Meaning: "recalls are too frequent; 1 per second", Source: seed},
		{From: 90052, Kind: providers.WindowClosed, Meaning: "the push is more than 24 hours old", Source: seed},
		{From: 90053, Kind: providers.Invalid, Meaning: "pushed with OnlineOnlyFlag=0, so the recall needs OfflinePushInfo", Source: seed},
		{From: 90992, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		{From: 90994, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		{From: 90995, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		{From: 91000, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: seed},
		{From: 90000, To: 90991, Kind: providers.Invalid, Meaning: "request errors", Source: "inferred"},
	}
	for _, code := range []int64{90005, 90018, 90020, 90022, 90026, 90032, 90033, 90039, 90040, 90056} {
		list = append(list, tencent.Code{From: code, Kind: providers.Invalid, Meaning: "a parameter of a push is wrong", Source: sourcePush})
	}
	return list
}
