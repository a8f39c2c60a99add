module github.com/ferrule-dev/ferrule/sdk-go

go 1.24
