"""What hidden states, runs and rewards tell, in tables of CSV."""
