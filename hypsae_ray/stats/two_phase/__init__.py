"""Where some rows were labelled and proxies are known of all: estimates that use both."""
