"""Observables: functions that lift a hidden state, fitted or fixed."""
