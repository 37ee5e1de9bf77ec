"""Imports a package that is not installed."""

import no_such_package_anywhere


def make_model():
    return no_such_package_anywhere.Model()
