package simulator

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// userSig is what a UserSig of version 2 holds (github.com/tencentyun/tls-sig-api-v2-golang).
type userSig struct {
	Version    string `json:"TLS.ver"`
	Identifier string `json:"TLS.identifier"`
	SDKAppID   uint64 `json:"TLS.sdkappid"`
	Expire     int64  `json:"TLS.expire"` // seconds that it is good for, not a time
	Time       int64  `json:"TLS.time"`   // Unix seconds
	UserBuf    string `json:"TLS.userbuf"`
	Sig        string `json:"TLS.sig"`
}

// parseUserSig undoes base64 with its own three characters, zlib and JSON.
func parseUserSig(text string) (userSig, error) {
	var u userSig
	packed, err := base64.StdEncoding.Strict().DecodeString(strings.NewReplacer("*", "+", "-", "/", "_", "=").Replace(text))
	if err != nil {
		return u, fmt.Errorf("base64: %w", err)
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return u, fmt.Errorf("zlib: %w", err)
	}
	// Read to the end, and not beyond what any UserSig holds: the checksum is what tells that one was cut off.
	plain, err := io.ReadAll(io.LimitReader(z, 1<<16))
	if err != nil {
		return u, fmt.Errorf("zlib: %w", err)
	}
	if err := json.Unmarshal(plain, &u); err != nil {
		return u, fmt.Errorf("json: %w", err)
	}
	if u.Version != "2.0" {
		return u, fmt.Errorf("version %q", u.Version)
	}
	return u, nil
}

// sign computes TLS.sig. The key is the secret as the text that the console shows, not decoded.
func (u userSig) sign(secret string) string {
	content := fmt.Sprintf("TLS.identifier:%s\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n", u.Identifier, u.SDKAppID, u.Time, u.Expire)
	if u.UserBuf != "" {
		content += "TLS.userbuf:" + u.UserBuf + "\n"
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(content))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// expired reports whether it has run out: it is good up to and including time+expire, as the official library has it.
func (u userSig) expired(now time.Time) bool { return now.Unix() > u.Time+u.Expire }

// tencentAuthenticate refuses what Tencent's gateway would.
func tencentAuthenticate(s *Simulator, r *http.Request, q asked) *answer {
	code := s.judge(r, q)
	if code == "" {
		return nil
	}
	a := tencentFail(code, "")
	return &a
}

func (s *Simulator) judge(r *http.Request, q asked) string {
	query := r.URL.Query()
	if q.account == "" {
		return "60012"
	}
	account, known := s.accounts.get(Tencent, q.account)
	if !known {
		return "70020"
	}
	now := s.opt.Now()
	if s.accounts.locked(q.account, now) {
		return "70050"
	}
	code := s.judgeUserSig(query.Get("usersig"), query.Get("identifier"), account)
	switch code {
	case "70003", "70005", "70009":
		s.accounts.signature(q.account, false, now)
	case "":
		s.accounts.signature(q.account, true, now)
	}
	return code
}

func (s *Simulator) judgeUserSig(text, identifier string, account Account) string {
	if identifier == "" {
		return "60004"
	}
	if text == "" {
		return "70002"
	}
	u, err := parseUserSig(text)
	if err != nil {
		return "70003"
	}
	if u.Identifier != identifier {
		return "70013"
	}
	if strconv.FormatUint(u.SDKAppID, 10) != account.Account {
		return "70014"
	}
	if u.Sig != u.sign(account.Secret) {
		for _, other := range s.accounts.secretsOfOthers(Tencent, account.Account) {
			if u.Sig == u.sign(other) {
				return "70009"
			}
		}
		return "70005"
	}
	if u.expired(s.opt.Now()) {
		return "70001"
	}
	if identifier != account.Identifier {
		return "90009"
	}
	return ""
}
