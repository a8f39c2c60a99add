// Package shared is what the host and the plug-in of go-plugin share: the interface, and its two ways over the wire. It
// is set up as go-plugin's examples/grpc and examples/bidirectional are, but that the way back to the host is dialled
// once instead of in each call.
package shared

import (
	"context"
	"crypto/sha256"
	"io"
	"net/rpc"
	"slices"
	"sync"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/ferrule-dev/ferrule/bench/hashicorp/proto"
)

// The names under which plug-ins are dispensed.
const (
	NetRPC = "work_netrpc"
	GRPC   = "work_grpc"
)

// Handshake is what host and plug-in agree on.
var Handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "WORK_PLUGIN", MagicCookieValue: "work"}

// Plugins is the host's set.
var Plugins = map[string]plugin.Plugin{NetRPC: &NetRPCPlugin{}, GRPC: &GRPCPlugin{}}

// Work is the interface of the plug-in.
type Work interface {
	Echo(in []byte) ([]byte, error)
	CountVowels(in []byte) ([]byte, error)
	Ask(in []byte) ([]byte, error)
	Fail(how []byte) ([]byte, error)
	// Connect makes the host's Echo available to Ask. It is for the host, and called once.
	Connect() error
}

// Streams are those of a Work over gRPC.
type Streams interface {
	// Pipe sends in in pieces, and appends what comes back to dst.
	Pipe(dst, in []byte) ([]byte, error)
	// Digest sends in in pieces, and returns their SHA-256.
	Digest(in []byte) ([]byte, error)
}

// PieceSize is how long the pieces are that a stream goes in: what Ferrule's are.
const PieceSize = 64 << 10

// Impl is what the plug-in does with each input, apart from asking the host.
type Impl struct {
	Echo, CountVowels func(in []byte) []byte
	Fail              func(how []byte)
}

// NetRPCPlugin is the way over net/rpc.
type NetRPCPlugin struct{ Impl Impl }

// Server returns what the plug-in serves.
func (p *NetRPCPlugin) Server(broker *plugin.MuxBroker) (any, error) {
	return &rpcServer{impl: p.Impl, broker: broker}, nil
}

// Client returns a Work.
func (*NetRPCPlugin) Client(broker *plugin.MuxBroker, c *rpc.Client) (any, error) {
	return &rpcClient{client: c, broker: broker}, nil
}

type rpcClient struct {
	client *rpc.Client
	broker *plugin.MuxBroker
}

func (c *rpcClient) call(method string, in []byte) (out []byte, err error) {
	err = c.client.Call(method, in, &out)
	return out, err
}

func (c *rpcClient) Echo(in []byte) ([]byte, error)        { return c.call("Plugin.Echo", in) }
func (c *rpcClient) CountVowels(in []byte) ([]byte, error) { return c.call("Plugin.CountVowels", in) }
func (c *rpcClient) Ask(in []byte) ([]byte, error)         { return c.call("Plugin.Ask", in) }
func (c *rpcClient) Fail(how []byte) ([]byte, error)       { return c.call("Plugin.Fail", how) }

func (c *rpcClient) Connect() error {
	id := c.broker.NextId()
	go c.broker.AcceptAndServe(id, hostServer{})
	return c.client.Call("Plugin.Connect", id, new(bool))
}

// hostServer is what the host serves over net/rpc.
type hostServer struct{}

// Echo returns in.
func (hostServer) Echo(in []byte, out *[]byte) error {
	*out = in
	return nil
}

type rpcServer struct {
	impl   Impl
	broker *plugin.MuxBroker
	mu     sync.RWMutex
	host   *rpc.Client
}

// Echo returns in.
func (s *rpcServer) Echo(in []byte, out *[]byte) error {
	*out = s.impl.Echo(in)
	return nil
}

// CountVowels returns the number of vowels.
func (s *rpcServer) CountVowels(in []byte, out *[]byte) error {
	*out = s.impl.CountVowels(in)
	return nil
}

// Fail panics.
func (s *rpcServer) Fail(how []byte, _ *[]byte) error {
	s.impl.Fail(how)
	return nil
}

// Ask returns what the host's Echo returns.
func (s *rpcServer) Ask(in []byte, out *[]byte) error {
	s.mu.RLock()
	host := s.host
	s.mu.RUnlock()
	return host.Call("Plugin.Echo", in, out)
}

// Connect dials the host.
func (s *rpcServer) Connect(id uint32, _ *bool) error {
	conn, err := s.broker.Dial(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = rpc.NewClient(conn)
	return nil
}

// GRPCPlugin is the way over gRPC.
type GRPCPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	Impl Impl
}

// GRPCServer registers what the plug-in serves.
func (p *GRPCPlugin) GRPCServer(broker *plugin.GRPCBroker, s *grpc.Server) error {
	proto.RegisterWorkServer(s, &grpcServer{impl: p.Impl, broker: broker})
	return nil
}

// GRPCClient returns a Work.
func (*GRPCPlugin) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return &grpcClient{client: proto.NewWorkClient(c), broker: broker}, nil
}

type grpcClient struct {
	client proto.WorkClient
	broker *plugin.GRPCBroker
}

func (c *grpcClient) Echo(in []byte) ([]byte, error) {
	out, err := c.client.Echo(context.Background(), &proto.Bytes{Data: in})
	return out.GetData(), err
}

func (c *grpcClient) CountVowels(in []byte) ([]byte, error) {
	out, err := c.client.CountVowels(context.Background(), &proto.Bytes{Data: in})
	return out.GetData(), err
}

func (c *grpcClient) Ask(in []byte) ([]byte, error) {
	out, err := c.client.Ask(context.Background(), &proto.Bytes{Data: in})
	return out.GetData(), err
}

func (c *grpcClient) Fail(how []byte) ([]byte, error) {
	out, err := c.client.Fail(context.Background(), &proto.Bytes{Data: how})
	return out.GetData(), err
}

// Pipe sends and receives at the same time, as gRPC's own guide does it.
func (c *grpcClient) Pipe(dst, in []byte) ([]byte, error) {
	stream, err := c.client.Pipe(context.Background())
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		err := pieces(in, stream.Send)
		if err == nil {
			err = stream.CloseSend()
		}
		sent <- err
	}()
	for {
		out, err := stream.Recv()
		if err == io.EOF {
			return dst, <-sent
		}
		if err != nil {
			return nil, err
		}
		dst = append(dst, out.Data...)
	}
}

func (c *grpcClient) Digest(in []byte) ([]byte, error) {
	stream, err := c.client.Digest(context.Background())
	if err != nil {
		return nil, err
	}
	if err := pieces(in, stream.Send); err != nil {
		return nil, err
	}
	out, err := stream.CloseAndRecv()
	return out.GetData(), err
}

// pieces hands in to send, piece by piece.
func pieces(in []byte, send func(*proto.Bytes) error) error {
	for piece := range slices.Chunk(in, PieceSize) {
		if err := send(&proto.Bytes{Data: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (c *grpcClient) Connect() error {
	id := c.broker.NextId()
	go c.broker.AcceptAndServe(id, func(opts []grpc.ServerOption) *grpc.Server {
		s := grpc.NewServer(opts...)
		proto.RegisterHostServer(s, grpcHost{})
		return s
	})
	_, err := c.client.Connect(context.Background(), &proto.Broker{Id: id})
	return err
}

// grpcHost is what the host serves over gRPC.
type grpcHost struct{ proto.UnimplementedHostServer }

// Echo returns in.
func (grpcHost) Echo(_ context.Context, in *proto.Bytes) (*proto.Bytes, error) { return in, nil }

type grpcServer struct {
	proto.UnimplementedWorkServer
	impl   Impl
	broker *plugin.GRPCBroker
	mu     sync.RWMutex
	host   proto.HostClient
}

// Echo returns in.
func (s *grpcServer) Echo(_ context.Context, in *proto.Bytes) (*proto.Bytes, error) {
	return &proto.Bytes{Data: s.impl.Echo(in.Data)}, nil
}

// CountVowels returns the number of vowels.
func (s *grpcServer) CountVowels(_ context.Context, in *proto.Bytes) (*proto.Bytes, error) {
	return &proto.Bytes{Data: s.impl.CountVowels(in.Data)}, nil
}

// Fail panics.
func (s *grpcServer) Fail(_ context.Context, how *proto.Bytes) (*proto.Bytes, error) {
	s.impl.Fail(how.Data)
	return &proto.Bytes{}, nil
}

// Pipe gives each piece back.
func (s *grpcServer) Pipe(stream grpc.BidiStreamingServer[proto.Bytes, proto.Bytes]) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(in); err != nil {
			return err
		}
	}
}

// Digest returns the SHA-256 of all pieces.
func (s *grpcServer) Digest(stream grpc.ClientStreamingServer[proto.Bytes, proto.Bytes]) error {
	sum := sha256.New()
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&proto.Bytes{Data: sum.Sum(nil)})
		}
		if err != nil {
			return err
		}
		sum.Write(in.Data)
	}
}

// Ask returns what the host's Echo returns.
func (s *grpcServer) Ask(ctx context.Context, in *proto.Bytes) (*proto.Bytes, error) {
	s.mu.RLock()
	host := s.host
	s.mu.RUnlock()
	return host.Echo(ctx, in)
}

// Connect dials the host.
func (s *grpcServer) Connect(_ context.Context, at *proto.Broker) (*proto.Empty, error) {
	conn, err := s.broker.Dial(at.Id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = proto.NewHostClient(conn)
	return &proto.Empty{}, nil
}
