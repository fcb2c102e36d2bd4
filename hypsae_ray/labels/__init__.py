"""Labels of texts: plan, shards, stored annotations, assembly."""
