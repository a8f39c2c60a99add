// Package proto is the protocol between the host and the plug-in of go-plugin's gRPC way. To generate it again:
// apt-get install protobuf-compiler, go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 and
// google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2.
package proto

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative work.proto
