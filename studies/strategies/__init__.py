"""Every strategy on every kind of difference between sites: `python -m studies.strategies`.

`settings` are the data, `contenders` the strategies with their settings, `study_file` writes the
study of one run, `running` runs what is not finished, `tables` and `page` show the figures.
"""
