"""How exact a number can be: measured allowances and finite differences; no layers here."""
