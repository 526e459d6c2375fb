package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Account is one account at one vendor.
type Account struct {
	// Provider is one of the five names, or "tencent": an SDKAppID serves timpush and timchat alike, so one entry of either
	// name is enough for both.
	Provider string `json:"provider"`
	// Account is what names the account and is no secret: ChannelKey, AppKey or SDKAppID.
	Account string `json:"account"`
	// Secret is the MasterSecret, the SecretKey or the App Secret.
	Secret string `json:"secret,omitempty"`
	// Identifier is Tencent's app admin; empty means "administrator".
	Identifier string `json:"identifier,omitempty"`
}

// Check says what is wrong with an account, never its secret.
func (a Account) Check() error {
	switch a.Provider {
	case Jiguang, EngageLab, RongCloud:
	case TIMPush, TIMChat, Tencent:
		if _, err := strconv.ParseUint(a.Account, 10, 32); err != nil {
			return fmt.Errorf("account %q of %s: must be a number, the SDKAppID", cut(a.Account, 40), a.Provider)
		}
	default:
		return fmt.Errorf("provider %q: give jiguang, engagelab, timpush, timchat, tencent or rongcloud", cut(a.Provider, 40))
	}
	if a.Account == "" || strings.Contains(a.Account, ":") {
		return fmt.Errorf("account %q of %s: must not be empty or contain a colon", cut(a.Account, 40), a.Provider)
	}
	if a.Secret == "" {
		return fmt.Errorf("account %q of %s: secret is missing", cut(a.Account, 40), a.Provider)
	}
	return nil
}

// SampleAccounts returns one account at each vendor, made of the credentials that the vendors print in their own
// documents, so that nothing here is anybody's secret.
func SampleAccounts() []Account {
	return []Account{
		// https://docs.jiguang.cn/jums/server/ums_server_overview/
		{Provider: Jiguang, Account: "7d431e42dfa6a6d693ac2d04", Secret: "5e987ac6d2e04d95a9d8f0d1"},
		// https://engagelab.com/th_TH/docs/app-push/rest-api/rest-api-overview
		{Provider: EngageLab, Account: "c96f42e0d2e662e45d035ab1", Secret: "df4d59e84eac2f9d53b36f12"},
		// The sample key is the one in the README of github.com/tencentyun/tls-sig-api-v2-golang.
		{Provider: Tencent, Account: "1400000000", Identifier: "administrator",
			Secret: "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"},
		// Seed 004, and an older copy of https://docs.rongcloud.io/platform-chat-api/auth
		{Provider: RongCloud, Account: "uwd1c0sxdlx2", Secret: "Y1W2MeFwwwRxa0"},
	}
}

// family is the name under which an account is filed: Tencent's two APIs share their accounts.
func family(provider string) string {
	if provider == TIMPush || provider == TIMChat {
		return Tencent
	}
	return provider
}

type accountKey struct{ family, account string }

type accounts struct {
	lockAfter int

	mu   sync.Mutex
	all  map[accountKey]Account
	bad  map[accountKey]int       // bad signatures in a row
	till map[accountKey]time.Time // locked until
}

func newAccounts(lockAfter int) *accounts {
	a := &accounts{lockAfter: lockAfter, all: map[accountKey]Account{}}
	a.unlock()
	return a
}

func (s *accounts) set(a Account) error {
	if err := a.Check(); err != nil {
		return err
	}
	a.Provider = family(a.Provider)
	if a.Provider == Tencent && a.Identifier == "" {
		a.Identifier = "administrator"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[accountKey{a.Provider, a.Account}] = a
	return nil
}

func (s *accounts) get(provider, account string) (Account, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.all[accountKey{family(provider), account}]
	return a, ok
}

func (s *accounts) list() []Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Account, 0, len(s.all))
	for _, a := range s.all {
		a.Secret = ""
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Account) int { return strings.Compare(a.Provider+a.Account, b.Provider+b.Account) })
	return list
}

// secretsOfOthers returns the secrets of a family's other accounts, to tell a key of another app from no key at all.
func (s *accounts) secretsOfOthers(family, account string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for k, a := range s.all {
		if k.family == family && k.account != account {
			list = append(list, a.Secret)
		}
	}
	return list
}

// lockFor is how long 70050 lasts (https://cloud.tencent.com/document/product/679/131708: "retry after 1 minute").
const lockFor = time.Minute

// locked reports whether an SDKAppID is locked for bad signatures.
func (s *accounts) locked(account string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.till[accountKey{Tencent, account}])
}

// signature counts bad signatures in a row.
func (s *accounts) signature(account string, good bool, now time.Time) {
	if s.lockAfter <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := accountKey{Tencent, account}
	if good {
		delete(s.bad, k)
		return
	}
	s.bad[k]++
	if s.bad[k] >= s.lockAfter {
		delete(s.bad, k)
		s.till[k] = now.Add(lockFor)
	}
}

func (s *accounts) unlock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad, s.till = map[accountKey]int{}, map[accountKey]time.Time{}
}

// basic reports whether a request carries an account's key and secret.
func (s *accounts) basic(provider string, r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	a, known := s.get(provider, user)
	return ok && known && a.Secret == password
}
