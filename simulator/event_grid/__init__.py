"""Event Grid: the events of Azure Resource Manager, event subscriptions, and their delivery."""
