"""Recipes as TOML files, one for each published system or family; read by :mod:`memedge_export.train.recipes`."""
