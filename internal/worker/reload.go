package worker

import (
	"context"
	"slices"

	"github.com/recallq/recallq/providers"
)

// Reload puts the credentials, limits, windows and texts of a new configuration in force, without touching work that is under
// way. It returns what was changed, and what cannot be without a restart. The worker takes over the providers of all lanes
// given, and closes those that it does not need.
func (w *Worker) Reload(lanes []Lane) (changed, restart []string) {
	seen := map[string]bool{}
	for _, next := range lanes {
		name := next.Spec.Name + ":" + next.App
		seen[name] = true
		s := w.station(next.Spec.Name, next.App)
		if s == nil {
			next.Provider.Close()
			restart = append(restart, name+" is new")
			continue
		}
		if next.Timeout != s.Timeout || next.Concurrency != s.Concurrency {
			restart = append(restart, name+" has another timeout or concurrency")
		}
		if s.replace(next) {
			changed = append(changed, name)
			w.show(s)
		}
	}
	for _, s := range w.stations {
		if !seen[s.lane.Name()] {
			restart = append(restart, s.lane.Name()+" is gone")
		}
	}
	return changed, restart
}

func (w *Worker) station(provider, app string) *station {
	for _, s := range w.stations {
		if s.Spec.Name == provider && s.App == app {
			return s
		}
	}
	return nil
}

// replace puts a lane's new account in force, if it is one.
func (s *station) replace(next Lane) bool {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	old := s.account.Load()
	same := old.Fingerprint == next.Fingerprint && old.Window == next.Window && old.DefaultText == next.DefaultText &&
		slices.EqualFunc(old.Limits, next.Limits, sameLimit)
	if same {
		next.Provider.Close()
		return false
	}
	s.account.Store(&next)
	s.lane.Change(next.Fingerprint, next.Limits)
	old.Provider.Close()
	return true
}

// show tells at once how a lane stands whose account has changed: a hold binds only the credentials it was seen with.
func (w *Worker) show(s *station) {
	if !w.started.Load() {
		return // the start tells all lanes
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishEvery)
	defer cancel()
	if err := s.publish(ctx); err != nil {
		s.log.Debug().Err(err).Msg("the lane was not published")
	}
	select {
	case s.changes <- struct{}{}:
	default:
	}
}

func sameLimit(a, b providers.Limit) bool { return a.String() == b.String() }

// refresh looks whether the secrets of a held lane have changed on disk.
func (w *Worker) refresh() {
	for _, s := range w.stations {
		if s.hold.Load().Reason == "" || w.opt.Refresh == nil {
			continue
		}
		next, err := w.opt.Refresh(s.Spec.Name, s.App)
		if err != nil {
			s.log.Warn().Err(err).Msg("the secrets of a held lane could not be read again")
			continue
		}
		if next != nil && s.replace(*next) {
			w.show(s)
			s.log.Info().Msg("the lane's secrets have changed and are tried at once")
		}
	}
}
