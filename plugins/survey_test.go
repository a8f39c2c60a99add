package plugins_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// surveyed is the overview of a config.yaml with these lines, and these plug-ins, none of which may be started.
func surveyed(t *testing.T, text string, all ...*builtin.Plugin) *plugins.Overview {
	t.Helper()
	for _, p := range all {
		p.Start = func(context.Context, []byte) (any, error) {
			t.Errorf("%s was started", p.Name)
			return nil, nil
		}
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	o, err := plugins.Survey(t.Context(), plugins.Config(path), plugins.Builtin(all...))
	require.NoError(t, err)
	return o
}

// of returns what an overview has of a plug-in.
func of(t *testing.T, o *plugins.Overview, name string) plugins.Plugin {
	t.Helper()
	for _, p := range o.Plugins {
		if p.Name == name {
			return p
		}
	}
	require.Fail(t, "no plug-in "+name)
	return plugins.Plugin{}
}

// TestSurvey: what no plug-in provides is the application's, granted or not; what a plug-in provides is held to its grant as by Start; nothing runs.
func TestSurvey(t *testing.T) {
	geo := simple("geo", "1.0.0", map[string]string{"provides": "geo_lookup"})
	geo.Funcs[0].Name = "geo_lookup"
	told := func(keys map[string]string) []builtin.Function {
		return []builtin.Function{{Name: "told", Keys: keys, Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}
	}
	tax := simple("tax", "1.0.0", map[string]string{"host.shop": "^9"}, "loyalty_points", "cart_total")
	tax.Hooks = told(map[string]string{"before": "mail"})
	mail := simple("mail", "1.0.0", nil)
	mail.Hooks = told(map[string]string{"before": "tax"})
	o := surveyed(t, "plugins:\n  - {name: tax, grant: [loyalty_*]}\n  - gone\n  - {name: lost}\n", geo, tax, mail, simple("lost", "1.0.0", nil, "geo_lookup"),
		simple("frequent", "1.0.0", map[string]string{"requires": "receipts ^1"}))

	assert.Equal(t, []string{"loyalty_points"}, of(t, o, "tax").Grants)
	assert.NoError(t, of(t, o, "tax").Err)
	assert.Equal(t, plugins.StateReady, of(t, o, "tax").State)
	assert.ErrorIs(t, of(t, o, "gone").Err, plugins.ErrNotFound)
	assert.ErrorContains(t, of(t, o, "gone").Err, "expected a library whose manifest has this name, unless the application has it compiled in")
	assert.ErrorContains(t, of(t, o, "frequent").Err, "Install receipts, or disable frequent, unless the application has receipts compiled in")
	assert.ErrorIs(t, of(t, o, "lost").Err, plugins.ErrGrant)
	assert.Equal(t, "tax", o.Config.Plugins[0].Name)

	require.Len(t, o.Hooks, 1)
	assert.Equal(t, "told", o.Hooks[0].Point)
	assert.Len(t, o.Hooks[0].Places, 2)
	require.Len(t, o.Hooks[0].Faults, 1, "each before the other")
	assert.ErrorContains(t, o.Hooks[0].Faults[0], "found tax before mail before tax")
	var e *plugins.Error
	require.ErrorAs(t, o.Hooks[0].Faults[0], &e)
	assert.Equal(t, []string{"tax", "an order without a circle"}, []string{e.Plugin, e.Expected})
}

// TestSurveySecrets: a secret that is not there is a doubt, as the application may have it; a value that the schema does not take is a failure, with or
// without.
func TestSurveySecrets(t *testing.T) {
	made := func(name string) *builtin.Plugin {
		p := simple(name, "1.0.0", nil)
		p.ConfigSchema = `{"type":"object","properties":{"rate":{"type":"integer"}}}`
		return p
	}
	o := surveyed(t, "plugins:\n  - {name: a, config: {token: '${env:FERRULE_TEST_NOT_THERE}'}}\n  - {name: b, config: {rate: high}}\n", made("a"), made("b"))
	a, b := of(t, o, "a"), of(t, o, "b")
	assert.Equal(t, []plugins.State{plugins.StateReady, plugins.StateFailed}, []plugins.State{a.State, b.State})
	assert.ErrorIs(t, a.Err, plugins.ErrSettings)
	assert.ErrorContains(t, a.Err, "FERRULE_TEST_NOT_THERE")
	assert.ErrorIs(t, b.Err, plugins.ErrSettings)
}

// TestSurveyFails: what is wrong with the whole is its error.
func TestSurveyFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	_, err := plugins.Survey(t.Context(), plugins.Config(path))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = plugins.Survey(t.Context(), plugins.Config(path), plugins.Config(path))
	assert.ErrorIs(t, err, plugins.ErrOption)
	require.NoError(t, os.WriteFile(path, []byte("plugin: []\n"), 0o644))
	_, err = plugins.Survey(t.Context(), plugins.Config(path))
	var faulty *config.Error
	assert.ErrorAs(t, err, &faulty)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = plugins.Survey(ctx, plugins.Folder(dir))
	assert.ErrorIs(t, err, context.Canceled)
}

// TestSurveyOfAllFaults: what is wrong with a plug-in is found at once, at whichever step it is; the file is named as it is called.
func TestSurveyOfAllFaults(t *testing.T) {
	geo := simple("geo", "1.0.0", map[string]string{"provides": "geo_lookup"})
	geo.Funcs[0].Name = "geo_lookup"
	a := simple("a", "1.0.0", map[string]string{"requires": "b ^1\nc", "permit.connect": "443"}, "geo_lookup")
	a.ConfigSchema = `{"type":"object","required":["percent"]}`
	d := simple("d", "1.0.0", map[string]string{"permit.connect": "443"})
	d.ConfigSchema = a.ConfigSchema
	o := surveyed(t, "plugins: [{name: a, version: ^2}, d, {name: off, enabled: false}]\n", geo, a, d, simple("off", "1.0.0", map[string]string{"requires": "b", "permit.connect": "443"}))
	texts := func(name string) (all []string) {
		all = append(all, of(t, o, name).Err.Error())
		for _, err := range o.More[name] {
			all = append(all, err.Error())
		}
		return all
	}
	folder := filepath.Dir(o.Config.Path) + string(filepath.Separator)
	for name, want := range map[string][]string{
		"a": {`a: resolve: found 1.0.0, expected "^2"`, "a: resolve: found no plug-in b,", "a: resolve: found no plug-in c,", "expected a grant or a permit of each", `a: settings: ` + folder + `config.yaml:1:11: a: config: found no "percent"`},
		"d": {"a manifest that asks for connect 443, which it was not permitted, expected a permit of each", `d: settings: ` + folder + `config.yaml:1:35: d: config: found no "percent"`},
	} {
		got := texts(name)
		if assert.Len(t, got, len(want), "%q", got) {
			for i := range want {
				assert.Contains(t, got[i], want[i])
			}
		}
	}
	assert.Empty(t, o.More["off"])
}
