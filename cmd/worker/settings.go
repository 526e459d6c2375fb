package main

import (
	"reflect"
	"sync"

	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/worker"
)

// settings is the configuration in force. It changes with SIGHUP, and when the secrets of a held lane have changed on disk.
type settings struct {
	lookup   env
	listen   string                          // the page's address, over the file's; empty: the file's
	setLogin func(username, password string) // of the page; nil while there is none

	mu      sync.Mutex
	cfg     *config.Config
	started config.Config // as it was read at the start: what has changed since and is not taken over takes a restart
}

// load reads the configuration for the first time.
func (s *settings) load(path string) error {
	cfg, err := config.LoadListening(path, s.listen, s.lookup)
	if err != nil {
		return err
	}
	s.cfg, s.started = cfg, *cfg
	return nil
}

// reload reads the configuration again, and keeps the old one if the new one is bad.
func (s *settings) reload(w *worker.Worker, log zerolog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := config.LoadListening(s.cfg.Path, s.listen, s.lookup)
	if err != nil {
		log.Error().Err(err).Msg("the configuration is not reloaded, the old one stays in force")
		return
	}
	lanes, err := lanesOf(next)
	if err != nil {
		log.Error().Err(err).Msg("the configuration is not reloaded, the old one stays in force")
		return
	}
	changed, restart := w.Reload(lanes)
	sections := s.restarts(next)
	if s.login(next) {
		changed = append(changed, "ui")
	}
	s.cfg = next
	log.Info().Strs("changed", changed).Msg("the configuration is reloaded")
	warnOfWindows(next, s.started.Retention, log) // another retention takes a restart
	if len(restart)+len(sections) > 0 {
		log.Warn().Strs("lanes", restart).Strs("sections", sections).Msg("what has changed here takes a restart")
	}
}

// login takes the page's name and password over, and reports whether they have changed.
func (s *settings) login(next *config.Config) bool {
	if s.setLogin == nil || !s.loginIsSafe(next) {
		return false
	}
	s.setLogin(next.UI.Username, next.UI.Password)
	return next.UI.Username != s.cfg.UI.Username || next.UI.Password != s.cfg.UI.Password
}

// loginIsSafe is false for a page that is to lose its password while it listens where it needs one: the address does not change
// before a restart.
func (s *settings) loginIsSafe(next *config.Config) bool {
	ui := s.started.UI
	ui.Password = next.UI.Password
	return config.CheckListen(s.started.Listen, ui) == nil
}

// restarts names what else than lanes has changed since the start without being taken over.
func (s *settings) restarts(next *config.Config) []string {
	var sections []string
	for _, section := range []struct {
		name    string
		changed bool
	}{
		{"redis", !reflect.DeepEqual(s.started.Redis, next.Redis)},
		{"listen", s.started.Listen != next.Listen},
		{"ui.enabled", s.started.UI.Enabled != next.UI.Enabled},
		{"ui.read_only", s.started.UI.ReadOnly != next.UI.ReadOnly},
		{"ui.password", s.setLogin != nil && !s.loginIsSafe(next)},
		{"retention", s.started.Retention != next.Retention},
	} {
		if section.changed {
			sections = append(sections, section.name)
		}
	}
	return sections
}

// refresh reads a lane's secrets again, where they stand in files of their own. It returns nil if they are the same.
func (s *settings) refresh(provider, app string) (*worker.Lane, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, a := range s.cfg.Apps {
		if a.Provider != provider || a.Name != app {
			continue
		}
		next, changed, err := a.Reload()
		if err != nil || !changed {
			return nil, err
		}
		lane, err := laneOf(next)
		if err != nil {
			return nil, err
		}
		s.cfg.Apps[i] = next
		return &lane, nil
	}
	return nil, nil
}
