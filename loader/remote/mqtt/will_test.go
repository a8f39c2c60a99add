package mqtt

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A last will is given its end, whatever else the packet says; what has none, or has one, is as it was.
func TestWillFor(t *testing.T) {
	for _, c := range []*packets.Connect{
		{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: "a", WillFlag: true, WillTopic: "b", WillMessage: []byte("gone")},
		{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: "a", WillFlag: true, WillTopic: string(bytes.Repeat([]byte("b"), 87)), WillMessage: []byte("gone"), KeepAlive: 10}, // 127 bytes
		{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: string(bytes.Repeat([]byte("c"), 20_000)), WillFlag: true, WillTopic: "b", UsernameFlag: true, Username: "u",
			PasswordFlag: true, Password: []byte("p"), Properties: &packets.Properties{User: []packets.User{{Key: "k", Value: string(bytes.Repeat([]byte("v"), 500))}}}},
	} {
		var b bytes.Buffer
		_, err := c.WriteTo(&b)
		require.NoError(t, err)
		out := willFor(b.Bytes(), 90)
		read, err := packets.ReadPacket(bytes.NewReader(out))
		require.NoError(t, err)
		got := read.Content.(*packets.Connect)
		require.NotNil(t, got.WillProperties.MessageExpiry)
		assert.EqualValues(t, 90, *got.WillProperties.MessageExpiry)
		assert.Equal(t, []any{c.ClientID, c.WillTopic, c.Username, c.KeepAlive}, []any{got.ClientID, got.WillTopic, got.Username, got.KeepAlive})
		assert.Equal(t, out, willFor(out, 5), "it has one")
		for n := range min(len(out), 200) {
			assert.Equal(t, out[:n], willFor(out[:n], 90))
		}
	}
	var b bytes.Buffer
	_, err := (&packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: "a"}).WriteTo(&b)
	require.NoError(t, err)
	assert.Equal(t, b.Bytes(), willFor(b.Bytes(), 90))
}
