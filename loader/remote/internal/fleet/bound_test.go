package fleet

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
)

// Who announces nodes without end has a host keep no more than so many; those that are known go on to be.
func TestNodesAreBounded(t *testing.T) {
	f := &fleet{nodes: make(map[string]*node)}
	for i := range broker.MostNodes + 10 {
		f.came(broker.Node{ID: strconv.Itoa(i), Address: "a", Serves: true})
	}
	assert.Len(t, f.nodes, broker.MostNodes)
	f.came(broker.Node{ID: "5", Address: "another", Serves: true})
	assert.Equal(t, "another", f.nodes["5"].Address)
	assert.Len(t, f.nodes, broker.MostNodes)
	f.went("5")
	f.came(broker.Node{ID: "new", Address: "a", Serves: true})
	assert.NotNil(t, f.nodes["new"])
}
