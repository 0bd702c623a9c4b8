"""The plan, the live view, and what is there."""

from curiosity_bluesky import curiosity_plan, steer
from curiosity_bluesky.views import LiveView, show_progress


def why(uid, number):
    """Say why a decision was made; so does a click on its point in the window."""
    from curiosity_bluesky.analysis import explain_in_catalog  # slow to import

    return explain_in_catalog(catalog, uid, number)


# The writer is bound: the last picture is drawn when IPython has cleared its names.
live = LiveView(
    catalog.pictures,
    status=lambda writer=writer: writer.status,
    steering=steer,
    explain=why,
    lineage=catalog.lineage,
)
live.open()  # a window, where matplotlib has a Qt backend; else a PNG that follows the run
RE.subscribe(live)
show_progress(RE)
steer.watchers.append(live.watch)  # what is expected, for the main panel

print(
    f"""
sample      {RE.md["sample"]}
catalogue   {catalog.where}, {known}
pictures    {catalog.pictures}
live figure {live.where}

RE(curiosity_plan([spectrometer], stage.x, stage.y, imager, num_points=60))
read(catalog[-1])
predict(catalog[-1])"""
)
