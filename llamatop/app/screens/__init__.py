"""The screens: each shows the app's latest snapshot and owns no state of the cluster."""
