"""From networks, data and training to bundles. Needs the extra ``export``; a device never imports it."""
