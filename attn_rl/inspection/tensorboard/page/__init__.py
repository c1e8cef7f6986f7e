"""The page that shows recorded attention: a TensorBoard tab, and one HTML file to send to a colleague."""
