package rongcloud

import (
	"net/http"

	"github.com/recallq/recallq/providers"
)

// Where the codes' meanings are from.
const (
	sourceCode = "https://docs.nexconn.ai/platform-chat-api/code" // RongCloud's present table, under its other brand
	sourceOld  = "https://imooc.com/article/68442"                // a copy of RongCloud's older table, with HTTP statuses
)

// code is one code of RongCloud's answers.
type code struct {
	number  int
	status  int // the HTTP status it is documented with; zero if none is
	kind    providers.Kind
	meaning string
	source  string
}

const (
	codeAccepted = "200"
	codeInternal = "1000" // has two documented meanings, which the HTTP status tells apart
)

// statusNotEnabled is RongCloud's own HTTP status for a service that the app has not enabled.
const statusNotEnabled = 430

// codes returns every documented code but that of success. RongCloud documents none for a message that was recalled
// before, is too old or is unknown.
func codes() []code {
	return []code{
		{400, http.StatusBadRequest, providers.Invalid, "the user ID does not exist", sourceCode},
		{404, http.StatusNotFound, providers.Misconfigured, "there is no such endpoint", sourceCode},
		// Under a status below 500 this means "invalid request parameters": see classify.
		{1000, http.StatusInternalServerError, providers.Unavailable, "internal logic error, or invalid request", sourceOld},
		{1001, http.StatusUnauthorized, providers.Credentials, "the App Secret is wrong", sourceOld},
		{1002, http.StatusBadRequest, providers.Invalid, "parameter error", sourceOld},
		{1003, http.StatusBadRequest, providers.Invalid, "no POST data", sourceOld},
		{1004, http.StatusUnauthorized, providers.Credentials, "the signature is wrong", sourceOld},
		{1005, http.StatusBadRequest, providers.Invalid, "a parameter is too long", sourceOld},
		{1006, http.StatusUnauthorized, providers.Credentials, "the app is locked, deleted or offline", sourceOld},
		{1007, http.StatusUnauthorized, providers.Credentials, "the method or the IP address is not allowed", sourceOld},
		// Also given when broadcasting is not enabled for the app, so one that lasts for days is a matter for the console.
		{1008, http.StatusTooManyRequests, providers.Throttled, "too frequent; or broadcasting is not enabled", sourceOld},
		{1009, statusNotEnabled, providers.Credentials, "the service is not enabled", sourceOld},
		{1010, 0, providers.Credentials, "the allow list is not enabled", sourceCode},
		{1011, 0, providers.Credentials, "the block list is not enabled", sourceCode},
		{1015, http.StatusOK, providers.Invalid, "the data to delete does not exist", sourceOld},
		{1016, http.StatusForbidden, providers.Invalid, "too many keep-alive rooms", sourceOld},
		{1018, 0, providers.Credentials, "RTC is not enabled", sourceCode},
		{1050, http.StatusGatewayTimeout, providers.Unavailable, "internal service timed out", sourceOld},
		{2007, http.StatusForbidden, providers.Credentials, "too many test users", sourceOld},
	}
}
