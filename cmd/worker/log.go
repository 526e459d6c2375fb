package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// levels are those that --log-level takes. zerolog has more, at which asynq and go-redis would be heard, or nobody.
var levels = map[string]zerolog.Level{
	"debug": zerolog.DebugLevel, "info": zerolog.InfoLevel, "warn": zerolog.WarnLevel, "error": zerolog.ErrorLevel,
}

// newLog returns the log: JSON, or for people on a terminal.
func newLog(w io.Writer, o options, level zerolog.Level) (zerolog.Logger, error) {
	if o.logLevel != "" {
		var known bool
		if level, known = levels[o.logLevel]; !known {
			return zerolog.Nop(), fmt.Errorf("--log-level %q is none of debug, info, warn, error", o.logLevel)
		}
	}
	format := o.logFormat
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "console"
		}
	}
	switch format {
	case "json":
	case "console":
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	default:
		return zerolog.Nop(), fmt.Errorf("--log-format %q is neither console nor json", o.logFormat)
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger(), nil
}

// redisLog is go-redis's way into our log. It talks much while Redis is away, so it is heard at debug only: what matters of
// it is told by those who use Redis.
type redisLog struct{ log zerolog.Logger }

func (r redisLog) Printf(_ context.Context, format string, v ...any) {
	r.log.Debug().Str("from", "redis").Msgf(format, v...)
}
