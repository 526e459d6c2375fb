package main

import (
	"strings"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/tasks"
)

// advice says what somebody can do about a recall that did not succeed, from the code if it tells enough, else from the outcome.
// What the codes mean is each provider's to say; the texts here are about a row and what may be wrong with it.
func advice(f tasks.Failure, at place) string {
	switch f.Outcome.Outcome {
	case tasks.Cancelled:
		return "if it was a mistake, while their windows are open: " + at.command("retry", f.Recall.Batch, "--outcome", tasks.Cancelled)
	case tasks.Expired:
		return adviceOnExpired(f)
	}
	if text, known := adviceByCode()[f.Recall.Provider+" "+f.Outcome.Code]; known {
		return text
	}
	switch {
	case f.Outcome.Outcome == tasks.NotFound:
		return "check that the ids are this account's, and of messages that were sent"
	case strings.HasPrefix(f.Error, "the payload"):
		return "it was written by another program or version; enqueue its row again"
	case strings.HasPrefix(f.Error, "others succeed"):
		return "the account works for others; check that these messages are this account's"
	}
	return "see the vendor's words; mend the rows and enqueue them again in this batch"
}

// adviceByCode has an entry for codes with which a certain field is wrong.
func adviceByCode() map[string]string {
	account := func(field string) string {
		return "the vendor does not know the account in " + field + "; check it, and that it is an account of this app"
	}
	return map[string]string{
		"jiguang 4004": "check that the msgids are whole, as the vendor returned them",

		"engagelab 21003": "the vendor answers alike for an id that it does not know and for a message that was recalled " +
			"elsewhere; check that the msg_ids are this AppKey's and data centre's",

		"timpush 90049": "check that the TaskIds are this SDKAppID's, and of pushes that were sent (not of scheduled ones)",
		"timpush 90053": "give offline_push_title and offline_push_desc, in the rows or as the app's defaults, and enqueue them again",

		"timchat 20022": "check that from is who sent the message and to who received it; a message may also be gone from the " +
			"vendor's storage",
		"timchat 20003": account("from or to"),
		"timchat 90003": account("to"),
		"timchat 90008": account("from"),
		"timchat 90048": account("from or to"),
		"timchat 70107": account("from or to"),
		"timchat 90054": "check the MsgKeys: the client SDK's msgID is none",

		"rongcloud 400":  account("from"),
		"rongcloud 1002": "check messageUID, from and sent_at: the vendor refuses one of them",
		"rongcloud 1005": "shorten extra: the vendor refuses a field as too long",
	}
}

func adviceOnExpired(f tasks.Failure) string {
	spec, known := providers.Lookup(f.Recall.Provider)
	switch {
	case f.Outcome.Code == "90052", f.Outcome.Code == "20016":
		return "nothing: the vendor's own window has closed"
	case known && !spec.WindowDocumented:
		return "the vendor documents no window of its own: with a longer window for the app in the workers' configuration, enqueue retry may still work"
	case strings.Contains(f.Error, "its lane was closed"), strings.Contains(f.Error, "the lane opens"):
		return "nothing: the window is closed; see enqueue lanes for what kept the lane closed"
	case strings.Contains(f.Error, "queue was paused"):
		return "nothing: the window is closed; the queue was paused meanwhile"
	}
	return "nothing: the window is closed"
}
