package timchat

import (
	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/tencent"
)

// Where the codes' meanings are from.
const (
	seed         = "seed 003"
	sourceHeader = "V2TIMErrorCode.h of the Chat SDK"
)

// codes returns the codes of openim/admin_msgwithdraw beside Tencent's common ones.
func codes() []tencent.Code {
	return []tencent.Code{
		{From: 20001, Kind: providers.Invalid, Meaning: "invalid packet", Source: sourceHeader},
		{From: 20002, Kind: providers.Unavailable, Meaning: "internal authentication failed", Source: sourceHeader},
		{From: 20003, Kind: providers.Invalid, Meaning: "the account was not imported", Source: sourceHeader},
		{From: 20004, Kind: providers.Unavailable, Meaning: "network error; try again", Source: sourceHeader},
		{From: 20005, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		// A limit of the client SDKs; an admin's recall has none that is documented.
		{From: 20016, Kind: providers.WindowClosed, Meaning: "the time limit for recalls has passed", Source: sourceHeader},
		{From: 20022, Kind: providers.NotFound, Meaning: "the message does not exist", Source: seed},
		{From: 20023, Kind: providers.AlreadyRecalled, Meaning: "recalled before", Source: seed},
		{From: 90001, Kind: providers.Invalid, Meaning: "the request's JSON cannot be parsed", Source: seed},
		{From: 90003, Kind: providers.Invalid, Meaning: "To_Account is missing, or there is no such account", Source: seed},
		{From: 90008, Kind: providers.Invalid, Meaning: "From_Account is missing, or there is no such account", Source: seed},
		{From: 90009, Kind: providers.Credentials, Meaning: "needs an app admin", Source: seed},
		{From: 90048, Kind: providers.Invalid, Meaning: "the account does not exist", Source: sourceHeader},
		{From: 90054, Kind: providers.Invalid, Meaning: "the MsgKey is invalid", Source: seed},
		// 90992 on every call means that a callback of the app's own is failing.
		{From: 90992, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		{From: 90994, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		{From: 90995, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: sourceHeader},
		{From: 91000, Kind: providers.Unavailable, Meaning: "internal error; try again", Source: seed},
		{From: 90000, To: 90991, Kind: providers.Invalid, Meaning: "request errors", Source: "inferred"},
	}
}
