package tasks

import (
	"sync"

	"github.com/recallq/recallq/providers"
)

// specs are the providers' facts, built once: providers.Specs reads the time zone database each time, which a million
// rows notice. Nothing changes them.
var specs = sync.OnceValue(func() map[string]providers.Spec {
	all := make(map[string]providers.Spec)
	for _, s := range providers.Specs() {
		all[s.Name] = s
	}
	return all
})

func lookup(provider string) (providers.Spec, bool) {
	s, ok := specs()[provider]
	return s, ok
}
