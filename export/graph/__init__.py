"""The function inside an exported model, built of TFLite builtins."""
