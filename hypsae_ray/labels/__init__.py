"""Labels of texts: plan, shards, stored answers, assembly."""
