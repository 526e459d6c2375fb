package main

import (
	"sync"

	"github.com/rs/zerolog"

	"github.com/recallq/recallq/internal/config"
	"github.com/recallq/recallq/internal/worker"
)

// settings is the configuration in force. It changes with SIGHUP, and when the secrets of a held lane have changed on disk.
type settings struct {
	mu  sync.Mutex
	cfg *config.Config
}

// reload reads the configuration again, and keeps the old one if the new one is bad.
func (s *settings) reload(w *worker.Worker, lookup env, log zerolog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := config.Load(s.cfg.Path, lookup)
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
	s.cfg = next
	log.Info().Strs("changed", changed).Msg("the configuration is reloaded")
	warnOfWindows(next, log)
	if len(restart) > 0 {
		log.Warn().Strs("lanes", restart).Msg("what has changed here takes a restart")
	}
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
