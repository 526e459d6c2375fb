// Package tencent is what TIMPush and Tencent Chat share: the regions' hosts, the account and its UserSig, the shape of a
// call, the envelope of an answer and the codes that are common to all APIs.
//
// Both vendors' pages describe one gateway, so there is one [Gateway] here; packages timpush and timchat add their path,
// their body and their own codes. Nothing here retries or waits: a call is one request, and its fault a fact.
package tencent

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/internal/rest"
)

// DefaultIdentifier is the admin account that every new Chat application has.
const DefaultIdentifier = "administrator"

// DefaultRegion is the region of an account whose configuration names none.
const DefaultRegion = "china"

// Region is a data centre. An account lives in exactly one; another one's host answers 70016 or 70020, as if the
// credentials were wrong.
type Region struct {
	Name string // as in the configuration
	Host string
	// Backup is the second host that Tencent documents for the region. It is never called on our own account: an operator
	// who needs it sets base_url.
	Backup string
}

// Regions returns every region, with the hosts of seeds 002 and 003 and the backup hosts of
// https://www.tencentcloud.com/document/product/1047/34620. Tokyo's host is from https://trtc.io/document/67824, and no
// backup is documented for it. Mumbai's host is from those pages as they stood in 2023 and early 2024.
func Regions() []Region {
	return []Region{
		{Name: "china", Host: "console.tim.qq.com", Backup: "adminapi.my-imcloud.com"},
		{Name: "singapore", Host: "adminapisgp.im.qcloud.com", Backup: "adminapisgp.my-imcloud.com"},
		{Name: "seoul", Host: "adminapikr.im.qcloud.com", Backup: "adminapikr.my-imcloud.com"},
		{Name: "tokyo", Host: "adminapijpn.im.qcloud.com"},
		{Name: "frankfurt", Host: "adminapiger.im.qcloud.com", Backup: "adminapiger.my-imcloud.com"},
		{Name: "silicon_valley", Host: "adminapiusa.im.qcloud.com", Backup: "adminapiusa.my-imcloud.com"},
		{Name: "jakarta", Host: "adminapiidn.im.qcloud.com", Backup: "adminapiidn.my-imcloud.com"},
		{Name: "mumbai", Host: "adminapiind.im.qcloud.com", Backup: "adminapiind.my-imcloud.com"},
	}
}

// Account is one SDKAppID, with what is needed to sign for it. Its zero Identifier and Region mean the defaults.
type Account struct {
	SDKAppID   int64
	SecretKey  string // the console's hexadecimal text, used as it stands
	Identifier string
	Region     string
}

// identifierForm is Tencent's rule for a UserID.
var identifierForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,32}$`)

// Check returns a [*providers.FieldError] for each field that cannot be right. The fields have the configuration's names.
func (a Account) Check() []error {
	var faults []error
	fault := func(field, reason string) {
		faults = append(faults, &providers.FieldError{Field: field, Reason: reason})
	}
	switch {
	case a.SDKAppID == 0:
		fault("sdk_app_id", "is missing; give the SDKAppID of the Chat console, a number like 1400000000")
	case a.SDKAppID < 0:
		fault("sdk_app_id", "is "+strconv.FormatInt(a.SDKAppID, 10)+"; give the SDKAppID of the Chat console, a number like 1400000000")
	}
	switch {
	case a.SecretKey == "":
		fault("secret_key", "is missing; give the secret key of the Chat console")
	case !rest.Visible(a.SecretKey):
		fault("secret_key", "contains a space or an unprintable character; give the secret key just as the Chat console shows it")
	}
	if id := a.identifier(); !identifierForm.MatchString(id) {
		fault("identifier", "is "+strconv.Quote(providers.Line(id, 40))+"; give an app admin's UserID, which is 1 to 32 of a-z A-Z 0-9 _ -")
	}
	if _, ok := a.region(); !ok {
		fault("region", "is "+strconv.Quote(providers.Line(a.Region, 40))+"; give one of "+regionNames())
	}
	return faults
}

// ID returns the SDKAppID as text, which names the account at Tencent and is no secret.
func (a Account) ID() string { return strconv.FormatInt(a.SDKAppID, 10) }

// BaseURL returns Tencent's own URL for the account's region, or "" if there is no such region.
func (a Account) BaseURL() string {
	r, ok := a.region()
	if !ok {
		return ""
	}
	return "https://" + r.Host
}

func (a Account) identifier() string {
	if a.Identifier == "" {
		return DefaultIdentifier
	}
	return a.Identifier
}

func (a Account) region() (Region, bool) {
	name := a.Region
	if name == "" {
		name = DefaultRegion
	}
	for _, r := range Regions() {
		if r.Name == name {
			return r, true
		}
	}
	return Region{}, false
}

func regionNames() string {
	var names []string
	for _, r := range Regions() {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}
