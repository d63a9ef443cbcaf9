"""The figures of a report, one concern a file; each function returns a matplotlib figure, ``style.svg`` its text.

No pyplot and so no global state. Text, axes and grid take the page's own colour, so one figure serves a light and a
dark page; colours are those of Okabe & Ito (2008), which the colour-blind tell apart, and dashes and markers say the
same again.
"""
