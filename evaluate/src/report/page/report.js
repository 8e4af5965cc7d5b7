(()=>{
const all=(query,root=document)=>[...root.querySelectorAll(query)];
const short=value=>Math.abs(value)>=1e6||(value!==0&&Math.abs(value)<1e-3)?value.toExponential(3):String(Number(value.toPrecision(5)));

// Charts: the values nearest to the pointer, or stepped through by the arrow keys.
for(const plot of all('.plot[data-chart]')){
  const chart=JSON.parse(plot.dataset.chart),{from,to,x0,x1}=chart.frame||{},readout=plot.nextElementSibling;
  const places=[...new Set(chart.lines.flatMap(line=>line.points.map(point=>point[0])))].sort((a,b)=>a-b);
  if(!chart.frame||!places.length)continue;
  const cursor=document.createElement('i');cursor.className='cursor';cursor.hidden=true;plot.append(cursor);
  let at=-1;
  const show=index=>{
    at=Math.max(0,Math.min(places.length-1,index));
    const x=places[at],share=from+(to-from)*(x1>x0?(x-x0)/(x1-x0):.5);
    cursor.hidden=false;cursor.style.left=100*share+'%';
    const values=chart.lines.map(line=>{
      const near=line.points.reduce((best,point)=>Math.abs(point[0]-x)<Math.abs(best[0]-x)?point:best);
      return [line.name,near[0]===x||Math.abs(near[0]-x)<=(x1-x0)/100?short(near[1]):'-'];
    });
    readout.replaceChildren(chart.x+' '+(chart.bins?chart.bins[at]:short(x))+': ');
    values.forEach(([name,value],i)=>{const bold=document.createElement('b');bold.textContent=value;readout.append(i?', ':'',name+' ',bold)});
  };
  const nearest=x=>{let low=0,high=places.length-1;while(low<high){const mid=low+high>>1;if(places[mid]<x)low=mid+1;else high=mid}return low>0&&x-places[low-1]<places[low]-x?low-1:low};
  plot.addEventListener('pointermove',event=>{
    const box=plot.getBoundingClientRect(),share=(event.clientX-box.left)/box.width;
    show(nearest(x0+(x1-x0)*(share-from)/(to-from)));
  });
  plot.addEventListener('keydown',event=>{
    const step={ArrowRight:1,ArrowLeft:-1,PageDown:10,PageUp:-10,Home:-1e9,End:1e9}[event.key];
    if(!step)return;
    event.preventDefault();show(at<0?(step>0?0:places.length-1):at+step);
  });
  plot.addEventListener('blur',()=>{cursor.hidden=true});
}

// Maps of features: the picture of the dot under the pointer.
const pictures=all('template.map-pictures');
if(pictures.length){
  const addresses=new Map(pictures.flatMap(template=>all('img',template.content)).map(img=>[img.dataset.picture,img.getAttribute('src')]));
  const tip=document.createElement('img');
  tip.className='map-tip';tip.hidden=true;
  for(const map of all('svg.map')){
    map.addEventListener('pointermove',event=>{
      const id=event.target.dataset&&event.target.dataset.point,address=addresses.get(id);
      tip.hidden=!address;
      if(address){
        if(!tip.isConnected)document.body.append(tip);
        tip.src=address;tip.alt='image '+id;tip.style.left=event.clientX+12+'px';tip.style.top=event.clientY+12+'px';
      }
    });
    map.addEventListener('pointerleave',()=>{tip.hidden=true});
  }
}

// The gallery's filter. Counts of what is in the tables stand in the options; here those that are shown.
const filter=document.getElementById('gallery-filter');
if(filter){
  const tiles=all('.tile'),output=filter.querySelector('output');
  const apply=()=>{
    const wanted=all('select',filter).filter(select=>select.value!=='').map(select=>[select.name,select.value]);
    let shown=0;
    for(const tile of tiles){
      const fits=wanted.every(([name,value])=>tile.dataset[name]===value);
      tile.hidden=!fits;shown+=fits;
    }
    output.textContent=shown+' of '+tiles.length+' pictures shown';
    filter.dataset.shown=shown;
  };
  filter.addEventListener('input',apply);
  filter.addEventListener('reset',()=>setTimeout(apply));
  apply();
}

// The viewer: an image alone, or two side by side, one laid over the other under the fitted map, and their difference.
const dialog=document.getElementById('viewer');
if(dialog){
  const stage=dialog.querySelector('.stage'),title=dialog.querySelector('h3'),facts=dialog.querySelector('.facts');
  const modes=dialog.querySelector('fieldset'),slider=dialog.querySelector('input[type=range]');
  let openers=[],at=0;
  const largest=id=>all('img[data-id="'+id+'"]').reduce((best,img)=>!best||img.naturalWidth>best.naturalWidth?img:best,null);
  const copy=(id,alt)=>{
    const found=largest(id),img=document.createElement('img');
    if(found){img.src=found.src;img.width=found.naturalWidth;img.height=found.naturalHeight}
    img.alt=alt;
    return img;
  };
  const side=(id,label)=>{
    const figure=document.createElement('figure'),caption=document.createElement('figcaption');
    caption.textContent=label;
    figure.append(copy(id,label),caption);
    return figure;
  };
  const over=(data,mode)=>{
    const box=document.createElement('div'),below=copy(data.b,'second image'),above=copy(data.a,'first image, carried onto the second');
    const ratio=below.width/Math.max(1,below.height),room=stage.clientWidth-24,tall=Math.min(innerHeight*.5,440);
    const width=Math.min(room,tall*ratio),height=width/ratio;
    box.className='over '+mode;
    for(const [element,w,h] of [[box,width,height],[below,width,height],[above,width,height]]){element.style.width=w+'px';element.style.height=h+'px'}
    const m=data.map?data.map.split(' ').map(Number):[1,0,0,0,1,0];
    above.style.transform='matrix('+[m[0],m[3]*height/width,m[1]*width/height,m[4],m[2]*width,m[5]*height].join(',')+')';
    if(mode==='overlay')above.style.opacity=slider.value;
    box.append(below,above);
    return box;
  };
  const draw=()=>{
    const data=openers[at].dataset,isPair=Boolean(data.b),mode=isPair?modes.querySelector('input:checked').value:'sides';
    title.textContent=data.title;facts.textContent=data.facts;
    modes.hidden=!isPair;slider.parentElement.hidden=mode!=='overlay';
    if(mode==='sides'){
      const sides=document.createElement('div');sides.className=isPair?'sides':'sides one';
      sides.append(side(data.a,data.labelA||data.a));
      if(isPair)sides.append(side(data.b,data.labelB||data.b));
      stage.replaceChildren(sides);
    }else stage.replaceChildren(over(data,mode));
    dialog.dataset.mode=mode;dialog.dataset.at=at;
  };
  const move=by=>{at=(at+by+openers.length)%openers.length;draw()};
  addEventListener('click',event=>{
    const opener=event.target.closest('.opener');
    if(!opener)return;
    // Next and previous go through what is on the page beside it.
    const list=opener.closest('.gallery,.groups');
    openers=all('.opener',list||document).filter(one=>!one.closest('[hidden]'));
    at=openers.indexOf(opener);
    dialog.showModal();draw();
  });
  const back=()=>{stage.replaceChildren();openers[at]?.focus()};
  dialog.querySelector('.close').addEventListener('click',()=>{dialog.close();back()});
  dialog.querySelector('.next').addEventListener('click',()=>move(1));
  dialog.querySelector('.previous').addEventListener('click',()=>move(-1));
  modes.addEventListener('input',draw);
  slider.addEventListener('input',draw);
  dialog.addEventListener('click',event=>{if(event.target===dialog)dialog.close()});
  dialog.addEventListener('keydown',event=>{
    if(event.target.matches('input'))return;
    if(event.key==='ArrowRight')move(1);else if(event.key==='ArrowLeft')move(-1);else return;
    event.preventDefault();
  });
  dialog.addEventListener('close',back);
}
})();
