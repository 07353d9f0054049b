"""People: users, sessions, API tokens with scopes, invitations, quotas, and the settings of the house."""
