module github.com/recallq/recallq

go 1.26
