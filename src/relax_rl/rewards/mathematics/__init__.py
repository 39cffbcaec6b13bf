"""Is this mathematical answer the gold one?"""
