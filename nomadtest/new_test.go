package nomadtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

func TestOutageOfAnHour(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		cluster := nomadtest.New(t, nomadtest.Servers(3))
		client := cluster.Client("server-1")
		start := time.Now()
		time.AfterFunc(10*time.Minute, cluster.Agent("server-1").Stop)
		time.AfterFunc(70*time.Minute, cluster.Agent("server-1").Start)
		var kinds []watch.Kind
		for event, err := range watch.Members(t.Context(), client.Agent, watch.Options{}) {
			require.NoError(t, err)
			t.Log(event, event.Time.Sub(start))
			kinds = append(kinds, event.Kind)
			if event.Kind == watch.OutageOver {
				break
			}
		}
		assert.Equal(t, watch.OutageOver, kinds[len(kinds)-1])
	})
	t.Log(time.Since(began))
}
