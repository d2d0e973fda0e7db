"""The actor that nothing can go around: limits, rules, sizing, exits, halts."""
