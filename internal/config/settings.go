package config

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/recallq/recallq/providers"
	"github.com/recallq/recallq/providers/engagelab"
	"github.com/recallq/recallq/providers/jiguang"
	"github.com/recallq/recallq/providers/rongcloud"
	"github.com/recallq/recallq/providers/timchat"
	"github.com/recallq/recallq/providers/timpush"
)

// settingsType is the Config type of a provider's package, read by its tags.
type settingsType struct{ reflect.Type }

// newSettings returns the settings of a provider by its name.
func newSettings(provider string) (settingsType, bool) {
	var s Settings
	switch provider {
	case providers.Jiguang:
		s = jiguang.Config{}
	case providers.EngageLab:
		s = engagelab.Config{}
	case providers.TIMPush:
		s = timpush.Config{}
	case providers.TIMChat:
		s = timchat.Config{}
	case providers.RongCloud:
		s = rongcloud.Config{}
	default:
		return settingsType{}, false
	}
	return settingsType{reflect.TypeOf(s)}, true
}

func keyOf(f reflect.StructField) string  { return f.Tag.Get("yaml") }
func isSecret(f reflect.StructField) bool { return f.Tag.Get("secret") == "true" }

// keys returns the keys of the file that the settings have, with the _file forms of secrets.
func (t settingsType) keys() []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		keys = append(keys, keyOf(f))
		if isSecret(f) {
			keys = append(keys, keyOf(f)+"_file")
		}
	}
	return keys
}

// read reads the settings from an app's section, checks them, and returns which secrets came from which files.
func (t settingsType) read(d *decoder, s section) (Settings, map[string]string) {
	value := reflect.New(t.Type).Elem()
	files := map[string]string{}
	for i := range t.NumField() {
		f := t.Field(i)
		key := keyOf(f)
		if isSecret(f) {
			text, file := d.secret(s, key)
			value.Field(i).SetString(text)
			if file != "" {
				files[key] = file
			}
			continue
		}
		d.setting(s, key, value.Field(i))
	}
	settings := value.Interface().(Settings)
	for _, err := range flatten(settings.Check()) {
		d.settingsFault(s, err)
	}
	return settings, files
}

// setting reads one value that is no secret, by the kind of the struct's field.
func (d *decoder) setting(s section, key string, into reflect.Value) {
	switch into.Kind() {
	case reflect.String:
		into.SetString(d.text(s, key, ""))
	case reflect.Bool:
		into.SetBool(d.boolean(s, key, false))
	case reflect.Int, reflect.Int64:
		if f, ok := s.fields[key]; ok {
			if n, ok := d.integer(f); ok {
				into.SetInt(n)
			}
		}
	default:
		panic(fmt.Sprintf("config: the settings' key %s has the kind %s, which is not supported", key, into.Kind()))
	}
}

// settingsFault places a fault that the provider's own check has found, unless its key has one already.
func (d *decoder) settingsFault(s section, err error) {
	var fault *providers.FieldError
	if !errors.As(err, &fault) {
		d.fault(s.line, s.path, "%v", err)
		return
	}
	if path := s.pathOf(fault.Field); !d.faulty[path] {
		d.fault(s.lineOf(fault.Field, fault.Field+"_file"), path, "%s", fault.Reason)
	}
}

// Reload reads the app's secrets again, where they stand in files of their own, and tells whether one has changed. If one
// cannot be read, or the new ones do not pass the provider's check, the app comes back as it was with an [*Error].
//
// The configuration file itself is not read again; that is [Load]'s.
func (a App) Reload() (App, bool, error) {
	if len(a.secretFiles) == 0 {
		return a, false, nil
	}
	old := reflect.ValueOf(a.Settings)
	value := reflect.New(old.Type()).Elem()
	value.Set(old)
	changed := false
	for i := range value.NumField() {
		key := keyOf(old.Type().Field(i))
		file, ok := a.secretFiles[key]
		if !ok {
			continue
		}
		text, err := readSecret(file)
		if err != nil {
			return a, false, &Error{File: file, Faults: []Fault{{Path: a.Lane() + "." + key, Reason: err.Error()}}}
		}
		changed = changed || text != value.Field(i).String()
		value.Field(i).SetString(text)
	}
	settings := value.Interface().(Settings)
	if faults := flatten(settings.Check()); len(faults) > 0 {
		e := &Error{File: a.Lane()}
		for _, err := range faults {
			e.Faults = append(e.Faults, Fault{Reason: err.Error()})
		}
		return a, false, e
	}
	a.Settings = settings
	return a, changed, nil
}
