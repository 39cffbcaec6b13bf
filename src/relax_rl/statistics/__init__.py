"""How sure a number is: intervals and tests that evaluation and analysis share."""
